// Streams: queues of work that runs only when somebody waits for it.
#pragma once
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "state.h"

using Work = std::function<void()>;

// What a stream records instead of queueing it.
struct Capture {
    int mode;
    std::thread::id thread;
    std::vector<Work> work;
    bool invalidated = false;
};

struct Stream {
    Context* context;
    std::deque<Work> queue;
    // Counted from the first ever queued.
    uint64_t finished = 0;
    std::unique_ptr<Capture> capture;

    uint64_t queued() const { return finished + queue.size(); }
    // Runs what was queued, up to a position. Nothing runs on a lost device.
    void run_until(uint64_t position);
    void run_all() { run_until(queued()); }
    void push(Work work);
};

struct Graph {
    std::vector<Work> work;
};

struct GraphExec {
    std::vector<Work> work;
};

// A place in a stream.
struct Recording {
    std::shared_ptr<Stream> stream;
    uint64_t position;
    std::chrono::steady_clock::time_point reached;

    bool finished() const { return stream->finished >= position; }
    void wait() const { stream->run_until(position); }
};

struct Event {
    unsigned flags;
    // None before the first.
    std::shared_ptr<Recording> recording;
};

// The stream of a handle, of which 0 is the context's default stream; or none.
std::shared_ptr<Stream> stream_of(Context& context, CUstream handle);
// Runs everything of a context.
void run_all(Context& context);
// Ends a call that waited: whatever went wrong meanwhile shows now.
CUresult waited();

// Refuses what a capturing stream cannot record, which invalidates the capture.
bool refused(Stream& stream);
// Refuses what may wait for the device while somebody captures: see CUstreamCaptureMode.
bool refused_by_captures();
