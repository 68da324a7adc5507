// Functions of one element, in f32.
#pragma once
#include "element.cuh"

// In the order of `tenon:embed/tensor.activation`.
enum Activation : int { IDENTITY, RELU, GELU_ERF, GELU_TANH, GELU_QUICK, SILU, TANH };

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <Activation ACTIVATION>
DEVICE float activated(float x) {
    switch (ACTIVATION) {
        case RELU:
            // Not fmaxf, which would hide a NaN.
            return x < 0.0f ? 0.0f : x;
        case GELU_ERF:
            return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
        case GELU_TANH:
            return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
        case GELU_QUICK:
            return x * sigmoid(1.702f * x);
        case SILU:
            return x * sigmoid(x);
        case TANH:
            return tanhf(x);
        default:
            return x;
    }
}

template <Activation ACTIVATION>
DEVICE void activate_each(float (&v)[CHUNK]) {
#pragma unroll
    for (int i = 0; i < CHUNK; i++) v[i] = activated<ACTIVATION>(v[i]);
}

// Chosen once a chunk, not once an element.
DEVICE void activate_chunk(Activation activation, float (&v)[CHUNK]) {
    switch (activation) {
        case RELU:
            return activate_each<RELU>(v);
        case GELU_ERF:
            return activate_each<GELU_ERF>(v);
        case GELU_TANH:
            return activate_each<GELU_TANH>(v);
        case GELU_QUICK:
            return activate_each<GELU_QUICK>(v);
        case SILU:
            return activate_each<SILU>(v);
        case TANH:
            return activate_each<TANH>(v);
        default:
            return;
    }
}
