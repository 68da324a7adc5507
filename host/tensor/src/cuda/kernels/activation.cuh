// Functions of one element, in f32: exact for results in f32, and for those in 16 bits as exact as
// their rounding lets anybody see.
#pragma once
#include "element.cuh"

// In the order of `tenon:embed/tensor.activation`.
enum Activation : int { IDENTITY, RELU, GELU_ERF, GELU_TANH, GELU_QUICK, SILU, TANH };

// What functions are made of, for results of type T.
template <typename T>
struct Functions {
    // 1 / (1 + e^-x), within 1e-6 of its size.
    DEVICE static float sigmoid(float x) {
        return reciprocal_approximate(1.0f + exp2_approximate(x * -1.4426950408889634f));
    }

    // The normal distribution up to x, (1 + erf(x / sqrt 2)) / 2, within 3e-7: formula 7.1.26 of
    // Abramowitz and Stegun for erfc at |x| / sqrt 2, whose p and coefficients have sqrt 2 and the
    // half in them.
    DEVICE static float normal(float x) {
        float distance = fabsf(x);
        float t = reciprocal_approximate(1.0f + 0.23164190f * distance);
        float sum = 0.53070271f;
        sum = sum * t - 0.72657601f;
        sum = sum * t + 0.71070687f;
        sum = sum * t - 0.14224837f;
        sum = sum * t + 0.12741480f;
        float beyond = sum * t * exp2_approximate(x * x * -0.72134752044448170f);
        return x < 0.0f ? beyond : 1.0f - beyond;
    }
};

template <>
struct Functions<float> {
    DEVICE static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
    DEVICE static float normal(float x) { return 0.5f * (1.0f + erff(x * 0.70710678118654752f)); }
};

template <typename T, Activation ACTIVATION>
DEVICE float activated(float x) {
    switch (ACTIVATION) {
        case RELU:
            // Not fmaxf, which would hide a NaN.
            return x < 0.0f ? 0.0f : x;
        case GELU_ERF:
            return x * Functions<T>::normal(x);
        case GELU_TANH:
            // (1 + tanh(u)) / 2 is the sigmoid of 2 u.
            return x * Functions<T>::sigmoid(1.59576912160573072f * (x + 0.044715f * x * x * x));
        case GELU_QUICK:
            return x * Functions<T>::sigmoid(1.702f * x);
        case SILU:
            return x * Functions<T>::sigmoid(x);
        case TANH:
            return tanhf(x);
        default:
            return x;
    }
}

template <typename T, Activation ACTIVATION>
DEVICE void activate_each(float (&v)[CHUNK]) {
#pragma unroll
    for (int i = 0; i < CHUNK; i++) v[i] = activated<T, ACTIVATION>(v[i]);
}

// Chosen once a chunk, not once an element.
template <typename T>
DEVICE void activate_chunk(Activation activation, float (&v)[CHUNK]) {
    switch (activation) {
        case RELU:
            return activate_each<T, RELU>(v);
        case GELU_ERF:
            return activate_each<T, GELU_ERF>(v);
        case GELU_TANH:
            return activate_each<T, GELU_TANH>(v);
        case GELU_QUICK:
            return activate_each<T, GELU_QUICK>(v);
        case SILU:
            return activate_each<T, SILU>(v);
        case TANH:
            return activate_each<T, TANH>(v);
        default:
            return;
    }
}
