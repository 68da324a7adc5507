// Kernels by name, called as the driver calls them: with an array of pointers to arguments.
#pragma once
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using Work = std::function<void()>;

// What the code of one file has.
struct Kernel {
    std::string file;
    std::string name;
    // Copies the arguments, and says what a thread of the launch does.
    Work (*bind)(void** arguments);
};

std::vector<Kernel>& kernels();

struct Registered {
    Registered(std::vector<Kernel> all) {
        for (Kernel& kernel : all) kernels().push_back(std::move(kernel));
    }
};

template <typename... A, size_t... I>
Work bound(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    std::tuple<A...> copied(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
    return [=] { std::apply(kernel, copied); };
}

template <typename... A>
Work bound(void (*kernel)(A...), void** arguments) {
    return bound(kernel, arguments, std::index_sequence_for<A...>());
}
