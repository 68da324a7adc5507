// Graphs: what a stream was told while it captured, to be queued again and again.
#include "stream.h"

EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, int mode) {
    return in_context([&](Context& context) {
        std::shared_ptr<Stream> stream = stream_of(context, handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        if (mode < 0 || mode > 2) return CUDA_ERROR_INVALID_VALUE;
        if (!handle) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
        stream->capture = std::make_unique<Capture>();
        stream->capture->mode = mode;
        stream->capture->thread = std::this_thread::get_id();
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph_handle) {
    return in_context([&](Context& context) {
        *graph_handle = nullptr;
        std::shared_ptr<Stream> stream = stream_of(context, handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
        constexpr int RELAXED = 2;
        if (stream->capture->mode != RELAXED &&
            stream->capture->thread != std::this_thread::get_id()) {
            return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
        }
        std::unique_ptr<Capture> capture = std::move(stream->capture);
        if (capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        auto graph = std::make_shared<Graph>();
        graph->work = std::move(capture->work);
        *graph_handle = state.graphs.add(graph);
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuStreamIsCapturing(CUstream handle, int* status) {
    return in_context([&](Context& context) {
        std::shared_ptr<Stream> stream = stream_of(context, handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        enum { NONE, ACTIVE, INVALIDATED };
        *status = !stream->capture ? NONE : stream->capture->invalidated ? INVALIDATED : ACTIVE;
        return CUDA_SUCCESS;
    });
}

// Flags say how a device prepares itself: nothing that shows here.
EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec* handle, CUgraph graph_handle,
                                            unsigned long long) {
    return in_context([&](Context&) {
        std::shared_ptr<Graph> graph = state.graphs.find(graph_handle);
        if (!graph) return CUDA_ERROR_INVALID_HANDLE;
        auto exec = std::make_shared<GraphExec>();
        exec->work = graph->work;
        *handle = state.graph_execs.add(exec);
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
    return in_context([&](Context& context) {
        std::shared_ptr<GraphExec> exec = state.graph_execs.find(handle);
        std::shared_ptr<Stream> stream = stream_of(context, stream_handle);
        if (!exec || !stream) return CUDA_ERROR_INVALID_HANDLE;
        for (const Work& work : exec->work) stream->push(work);
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec handle) {
    return in_context([&](Context&) {
        return state.graph_execs.remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    });
}

EXPORT CUresult cuGraphDestroy(CUgraph handle) {
    return in_context([&](Context&) {
        return state.graphs.remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    });
}
