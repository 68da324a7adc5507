// Patches of two images against a walk through their pixels.
#include "check.h"
#include "pixels.cu"

constexpr int BLOCK = 256;

struct Image {
    int width, height;
    i64 first;
};

template <typename T, typename Kernel>
void check(const char* name, Kernel kernel) {
    Random random{1};
    // In f32 exact.
    double relative = sizeof(T) == sizeof(float) ? 0.0 : rounding_of(T());
    Comparison comparison = {name, 1e-30, relative};
    Normalisation of = {{0.48f, 0.45f, 0.4f}, {0.26f, 0.27f, 0.28f}};
    for (int size : {1, 3, 4, 14}) {
        for (int frames : {1, 2}) {
            std::vector<Image> images = {{size * 3, size * 2, 0}, {size, size * 2, 18 * size * size}};
            Buffer<u8> bytes(18 * size * size + 6 * size * size);
            for (size_t i = 0; i < bytes.length; i++) bytes[i] = random.below(256);
            std::vector<PatchSource> sources;
            for (const Image& image : images) {
                sources.push_back({-1, 0});
                for (int y = 0; y < image.height; y += size) {
                    for (int x = 0; x < image.width; x += size) {
                        i64 offset = image.first + (i64(y) * image.width + x) * 3;
                        sources.push_back({offset, image.width * 3});
                    }
                }
            }
            int rows = int(sources.size()), width = 3 * frames * size * size;
            Buffer<PatchSource> on_device(rows);
            for (int i = 0; i < rows; i++) on_device[i] = sources[i];
            Buffer<T> out(size_t(rows) * width);
            launch(blocks_for(i64(rows) * chunks_of(width), BLOCK), BLOCK, 0, random, [&] {
                kernel(bytes.data(), on_device.data(), of, out.data(), rows, frames, size);
            });
            size_t at = 0;
            for (const PatchSource& source : sources) {
                for (int channel = 0; channel < 3; channel++) {
                    for (int i = 0; i < frames * size * size; i++, at++) {
                        int line = i / size % size, pixel = i % size;
                        float wanted = 0.0f;
                        if (source.offset >= 0) {
                            u8 byte = bytes[source.offset + line * source.line + pixel * 3 + channel];
                            float share = static_cast<float>(byte / 255.0);
                            wanted = (share - of.mean[channel]) / of.deviation[channel];
                        }
                        comparison.see(out.at(at), wanted);
                    }
                }
            }
        }
    }
}

int main() {
    check<float>("pixels_f32", pixels_f32);
    check<Bf16>("pixels_bf16", pixels_bf16);
    check<F16>("pixels_f16", pixels_f16);
}
