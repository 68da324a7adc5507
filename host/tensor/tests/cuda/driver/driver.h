// What the libraries that stand on the driver ask of it.
#pragma once
#include "kernel.h"

// Queues work in a stream, to be done when somebody waits for it.
void enqueue(void* stream, Work work);
