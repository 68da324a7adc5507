// From pixels to numbers: (value / 255 - mean) / deviation.
//
//   bytes: red, green and blue of each pixel of all images; sources [rows] on the device, both
//   made by the host; out [rows, 3 * frames * size * size] without gaps: each row by channel,
//   frame, line, pixel.
//
// Launch: one thread a chunk of 8 elements, blocks of 256, no shared memory. A row depends on its
// own pixels only.
#include "element.cuh"

// What a row is cut from: the square whose first byte is at `offset` in an image with lines of
// `line` bytes. A row of zeros has an offset below 0.
struct PatchSource {
    i64 offset;
    i64 line;
};

struct Normalisation {
    float mean[3];
    float deviation[3];
};

template <typename T>
DEVICE void pixels(const u8* bytes, const PatchSource* sources, const Normalisation& of, T* out,
                   int rows, int frames, int size) {
    int width = 3 * frames * size * size;
    ChunkPlace place(rows, width);
    if (!place.exists) return;
    PatchSource source = sources[place.row];
    float values[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        int element = place.start + i;
        int pixel = element % size, line = element / size % size;
        int channel = element / (size * size * frames);
        values[i] = 0.0f;
        if (source.offset < 0 || element >= width) continue;
        u8 byte = bytes[source.offset + line * source.line + pixel * 3 + channel];
        // Rounded to f32 after each step, as in the reference.
        values[i] = (static_cast<float>(byte) / 255.0f - of.mean[channel]) / of.deviation[channel];
    }
    T* row = out + static_cast<i64>(place.row) * width;
    store_chunk(row, place.start, width, chunks_aligned(out, width, width), values);
}

#define PIXELS(SUFFIX, T)                                                                        \
    KERNEL(256)                                                                                  \
    pixels_##SUFFIX(const u8* bytes, const PatchSource* sources, const Normalisation of, T* out, \
                    int rows, int frames, int size) {                                            \
        pixels(bytes, sources, of, out, rows, frames, size);                                     \
    }

FOR_ACTIVATIONS(PIXELS)
