// Streams, events, and waiting for them.
#include "stream.h"

// A stream with more work than this runs it, as a device would long since have done.
constexpr size_t MAX_QUEUED = 4096;

void Stream::run_until(uint64_t position) {
    while (!state.lost && finished < position) {
        Work work = std::move(queue.front());
        queue.pop_front();
        work();
        finished++;
    }
}

void Stream::push(Work work) {
    if (capture) {
        capture->work.push_back(std::move(work));
        return;
    }
    queue.push_back(std::move(work));
    if (queue.size() > MAX_QUEUED) run_all();
}

std::shared_ptr<Stream> stream_of(Context& context, CUstream handle) {
    if (!handle) return context.default_stream;
    std::shared_ptr<Stream> stream = state.streams.find(handle);
    return stream && stream->context == &context ? stream : nullptr;
}

void run_all(Context& context) {
    context.default_stream->run_all();
    for (auto& [handle, stream] : state.streams) {
        if (stream->context == &context) stream->run_all();
    }
}

CUresult waited() {
    state.memory.check();
    return state.lost ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_SUCCESS;
}

bool refused(Stream& stream) {
    if (!stream.capture) return false;
    stream.capture->invalidated = true;
    return true;
}

bool refused_by_captures() {
    bool any = false;
    for (auto& [handle, stream] : state.streams) {
        if (!stream->capture) continue;
        enum { GLOBAL, THREAD_LOCAL };
        int mode = stream->capture->mode;
        bool here = stream->capture->thread == std::this_thread::get_id();
        if (mode == GLOBAL || (mode == THREAD_LOCAL && here)) any |= refused(*stream);
    }
    return any;
}

EXPORT CUresult cuCtxSynchronize() {
    return in_context([](Context& context) {
        bool capturing = false;
        for (auto& [handle, stream] : state.streams) {
            if (stream->context == &context) capturing |= refused(*stream);
        }
        if (capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        run_all(context);
        return waited();
    });
}

EXPORT CUresult cuStreamCreateWithPriority(CUstream* handle, unsigned flags, int) {
    return in_context([&](Context& context) {
        if (flags > 1) return CUDA_ERROR_INVALID_VALUE;
        auto stream = std::make_shared<Stream>();
        stream->context = &context;
        *handle = state.streams.add(stream);
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuStreamCreate(CUstream* handle, unsigned flags) {
    return cuStreamCreateWithPriority(handle, flags, 0);
}

// Makes a call about a stream that must not be capturing.
template <typename Call>
static CUresult of_stream(CUstream handle, Call call) {
    return in_context([&](Context& context) -> CUresult {
        std::shared_ptr<Stream> stream = stream_of(context, handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        if (refused(*stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        return call(stream);
    });
}

EXPORT CUresult cuStreamSynchronize(CUstream handle) {
    return of_stream(handle, [](const std::shared_ptr<Stream>& stream) {
        stream->run_all();
        return waited();
    });
}

// What was queued runs now: nobody could wait for it later.
EXPORT CUresult cuStreamDestroy_v2(CUstream handle) {
    return of_stream(handle, [&](const std::shared_ptr<Stream>& stream) {
        stream->run_all();
        return state.streams.remove(handle) ? waited() : CUDA_ERROR_INVALID_HANDLE;
    });
}

EXPORT CUresult cuEventCreate(CUevent* handle, unsigned flags) {
    return in_context([&](Context&) {
        constexpr unsigned BLOCKING_SYNC = 1, DISABLE_TIMING = 2;
        if (flags & ~(BLOCKING_SYNC | DISABLE_TIMING)) return CUDA_ERROR_INVALID_VALUE;
        auto event = std::make_shared<Event>();
        event->flags = flags;
        *handle = state.events.add(event);
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuEventDestroy_v2(CUevent handle) {
    return in_context([&](Context&) {
        return state.events.remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    });
}

// Makes a call about an event and its last recording, which may be none.
template <typename Call>
static CUresult of_event(CUevent handle, Call call) {
    return in_context([&](Context&) -> CUresult {
        std::shared_ptr<Event> event = state.events.find(handle);
        return event ? call(event->recording.get()) : CUDA_ERROR_INVALID_HANDLE;
    });
}

EXPORT CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
    return of_stream(stream_handle, [&](const std::shared_ptr<Stream>& stream) {
        std::shared_ptr<Event> event = state.events.find(handle);
        if (!event) return CUDA_ERROR_INVALID_HANDLE;
        auto recording = std::make_shared<Recording>();
        recording->stream = stream;
        recording->position = stream->queued() + 1;
        event->recording = recording;
        stream->push([recording] { recording->reached = std::chrono::steady_clock::now(); });
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuStreamWaitEvent(CUstream stream_handle, CUevent handle, unsigned flags) {
    return of_stream(stream_handle, [&](const std::shared_ptr<Stream>& stream) {
        std::shared_ptr<Event> event = state.events.find(handle);
        if (!event) return CUDA_ERROR_INVALID_HANDLE;
        if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
        if (event->recording) stream->push([recording = event->recording] { recording->wait(); });
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuEventSynchronize(CUevent handle) {
    return of_event(handle, [](Recording* recording) {
        if (recording) recording->wait();
        return waited();
    });
}

// The device works while the host asks, so that asking again and again ends.
EXPORT CUresult cuEventQuery(CUevent handle) {
    return of_event(handle, [](Recording* recording) {
        if (!recording || recording->finished()) return CUDA_SUCCESS;
        recording->stream->run_until(recording->stream->finished + 1);
        return CUDA_ERROR_NOT_READY;
    });
}

EXPORT CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    return in_context([&](Context&) {
        std::shared_ptr<Event> events[2] = {state.events.find(start), state.events.find(end)};
        for (const std::shared_ptr<Event>& event : events) {
            constexpr unsigned DISABLE_TIMING = 2;
            if (!event || !event->recording || event->flags & DISABLE_TIMING) {
                return CUDA_ERROR_INVALID_HANDLE;
            }
            if (!event->recording->finished()) return CUDA_ERROR_NOT_READY;
        }
        auto between = events[1]->recording->reached - events[0]->recording->reached;
        *milliseconds = std::chrono::duration<float, std::milli>(between).count();
        return CUDA_SUCCESS;
    });
}
