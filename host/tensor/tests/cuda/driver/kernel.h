// Kernels by name, and their arguments as a launch brings them.
#pragma once
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

// A kernel with its arguments.
struct BoundKernel {
    // What one thread does.
    std::function<void()> thread;
    // The arguments that are pointers.
    std::vector<const void*> pointers;
};

struct Kernel {
    const char* file;
    const char* name;
    int max_threads;
    BoundKernel (*bind)(void** arguments);

    static std::vector<Kernel>& all() {
        static std::vector<Kernel> kernels;
        return kernels;
    }
};

struct RegisteredKernel {
    explicit RegisteredKernel(Kernel kernel) { Kernel::all().push_back(kernel); }
};

template <typename T>
T read_argument(const void* from, std::vector<const void*>& pointers) {
    T argument;
    memcpy(&argument, from, sizeof argument);
    if constexpr (std::is_pointer_v<T>) pointers.push_back(argument);
    return argument;
}

template <typename... Parameters, size_t... INDICES>
BoundKernel bind_each(void (*kernel)(Parameters...), void** arguments,
                      std::index_sequence<INDICES...>) {
    BoundKernel bound;
    std::tuple<Parameters...> values(
        read_argument<Parameters>(arguments[INDICES], bound.pointers)...);
    bound.thread = [=] { std::apply(kernel, values); };
    return bound;
}

// Copies a kernel's arguments, which have the types of its parameters.
template <typename... Parameters>
BoundKernel bind_arguments(void (*kernel)(Parameters...), void** arguments) {
    return bind_each(kernel, arguments, std::index_sequence_for<Parameters...>());
}
