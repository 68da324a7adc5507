"""Makes the images of these tests, and with Pillow 13.0.0 the pixels that are expected of them.

    pip install pillow==13.0.0 && python make_images.py

Writes beside itself the files; `pixels.bin`, the RGB bytes that transformers' `load_image` hands
to a model for each of them and those of resized parts; and `images.json`, which lists them all with
the places of their pixels. What no encoder here writes (interlaced, 16 bits, odd frames) is put
together by hand.
"""

import io
import json
import random
import struct
import zlib
from pathlib import Path

import PIL
from PIL import Image, ImageOps

assert PIL.__version__ == "13.0.0", PIL.__version__

HERE = Path(__file__).parent
WIDTH, HEIGHT = 21, 13
ORIENTATION = 0x0112

decoded, resized = [], []
pixels = bytearray()


def add(name, data):
    """Writes a file and the pixels that Pillow reads from it."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    (HERE / name).write_bytes(data)
    decoded.append({"file": name, "size": image.size, "at": len(pixels)})
    pixels.extend(image.tobytes())


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def picture(width=WIDTH, height=HEIGHT, mode="RGB"):
    """Slopes, edges and a little noise, in each channel another."""
    noise = random.Random(f"{width} {height} {mode}")
    channels = []
    for channel in range(len(mode)):
        band = Image.new("L", (width, height))
        for y in range(height):
            for x in range(width):
                value = 40 * channel + x * 180 // width + y * 60 // height
                if (x + 2 * y + 3 * channel) // 7 % 3 == 0:
                    value = 255 - value
                band.putpixel((x, y), max(0, min(255, value + noise.randint(-6, 6))))
        channels.append(band)
    return Image.merge(mode, channels)


# PNG


def chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(depth, colour, samples, before=b"", after=b"", interlaced=False, size=(WIDTH, HEIGHT)):
    """A PNG of `samples(x, y)`, a tuple; chunks stand before and after the pixels."""
    width, height = size
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)]
        passes += [(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for left, top, step_x, step_y in passes:
        columns = range(left, width, step_x)
        for y in range(top, height, step_y):
            if not columns:
                continue
            bits = "".join(f"{s:0{depth}b}" for x in columns for s in samples(x, y))
            bits += "0" * (-len(bits) % 8)
            raw += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    parts = [chunk(b"IHDR", header), before, chunk(b"IDAT", zlib.compress(raw)), after]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def sampler(mode, depth):
    """The picture's samples, in as many bits."""
    image = picture(mode=mode)
    bands = image.split()
    scale = ((1 << depth) - 1) / 255

    def samples(x, y):
        low = (x * 7 + y * 11) if depth == 16 else 0
        values = (band.getpixel((x, y)) for band in bands)
        return tuple(min((1 << depth) - 1, int(v * scale) + low) for v in values)

    return samples


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags.tobytes()


def make_png():
    grey, colour, palette, grey_alpha, colour_alpha = 0, 2, 3, 4, 6
    for depth in (1, 2, 4, 8):
        add(f"grey-{depth}.png", png(depth, grey, sampler("L", depth)))
        count = min(1 << depth, 200)
        colours = bytes(random.Random(depth).randrange(256) for _ in range(3 * count))
        plte = chunk(b"PLTE", colours)
        index = sampler("L", depth)
        indices = lambda x, y: (min(count - 1, index(x, y)[0]),)
        add(f"palette-{depth}.png", png(depth, palette, indices, plte))
        alpha = chunk(b"tRNS", bytes([0, 128]))
        add(f"palette-{depth}-alpha.png", png(depth, palette, indices, plte + alpha))
    short = chunk(b"PLTE", bytes(range(3 * 40)))
    add("palette-short.png", png(8, palette, sampler("L", 8), short))
    # Grey of 16 bits with small values too: Pillow does not scale it but cuts it off.
    ramp = lambda x, y: (y * WIDTH + x if y < HEIGHT - 2 else 65535 - 257 * x,)
    add("grey-16.png", png(16, grey, ramp))
    add("grey-16-interlaced.png", png(16, grey, ramp, interlaced=True))
    add("grey-16-transparent.png", png(16, grey, ramp, chunk(b"tRNS", b"\0\x20")))
    add("grey-alpha-16.png", png(16, grey_alpha, sampler("LA", 16)))
    add("colour-16.png", png(16, colour, sampler("RGB", 16)))
    add("colour-alpha-16.png", png(16, colour_alpha, sampler("RGBA", 16)))
    add("grey-transparent.png", png(8, grey, sampler("L", 8), chunk(b"tRNS", b"\0\x80")))
    add("colour-transparent.png", png(8, colour, sampler("RGB", 8), chunk(b"tRNS", bytes(6))))
    for mode in ("1", "L", "LA", "RGB", "RGBA", "P"):
        bands = "L" if mode == "1" else "RGB" if mode == "P" else mode
        add(f"pillow-{mode}.png", saved(picture(mode=bands).convert(mode), format="png"))
    for depth, kind, bands in ((1, grey, "L"), (8, colour, "RGB"), (16, colour_alpha, "RGBA")):
        data = png(depth, kind, sampler(bands, depth), interlaced=True)
        add(f"interlaced-{bands}-{depth}.png", data)
    for width, height in ((1, 1), (1, 9), (3, 2), (70, 1)):
        image = picture(width, height)
        add(f"size-{width}x{height}.png", saved(image, format="png"))
    add("photo.png", saved(picture(64, 40), format="png"))

    frames = [picture(), picture(mode="RGB").transpose(Image.Transpose.ROTATE_180)]
    options = {"save_all": True, "append_images": frames[1:]}
    add("animated.png", saved(frames[0], format="png", **options))
    options["default_image"] = True
    add("animated-default.png", saved(frames[0], format="png", **options))

    rgb = sampler("RGB", 8)
    tiff = exif(6).removeprefix(b"Exif\0\0")
    add("exif-before.png", png(8, colour, rgb, chunk(b"eXIf", tiff)))
    add("exif-after.png", png(8, colour, rgb, after=chunk(b"eXIf", tiff)))
    profile = f"\nexif\n{len(exif(8)):8}\n{exif(8).hex()}\n".encode()
    text = chunk(b"tEXt", b"Raw profile type exif\0" + profile)
    add("exif-text.png", png(8, colour, rgb, text))
    packed = b"Raw profile type exif\0\0" + zlib.compress(profile)
    add("exif-packed.png", png(8, colour, rgb, chunk(b"zTXt", packed)))
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation="3"/>'
    add("xmp.png", png(8, colour, rgb, chunk(b"iTXt", xmp)))


# JPEG


def make_jpeg():
    image = picture()
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        name = subsampling.replace(":", "")
        for kind, progressive in (("baseline", False), ("progressive", True)):
            options = {"quality": 90, "subsampling": subsampling, "progressive": progressive}
            add(f"{kind}-{name}.jpg", saved(image, format="jpeg", **options))
    for orientation in range(1, 9):
        data = saved(image, format="jpeg", quality=90, exif=exif(orientation))
        add(f"orientation-{orientation}.jpg", data)
    xmp = b"<x><tiff:Orientation>8</tiff:Orientation></x>"
    add("xmp.jpg", saved(image, format="jpeg", quality=90, xmp=xmp))
    add("grey.jpg", saved(picture(mode="L"), format="jpeg", quality=90))
    add("cmyk.jpg", saved(picture(mode="CMYK"), format="jpeg", quality=90))
    add("ycck.jpg", ycck(saved(picture(mode="CMYK"), format="jpeg", quality=90)))
    add("restart.jpg", saved(image, format="jpeg", restart_marker_blocks=2))
    add("photo.jpg", saved(picture(64, 40), format="jpeg", quality=80))
    for width, height in ((1, 1), (8, 8), (17, 33)):
        data = saved(picture(width, height), format="jpeg", quality=90)
        add(f"size-{width}x{height}.jpg", data)


def ycck(cmyk):
    """The same numbers, said to be YCCK by Adobe's marker."""
    marker = b"Adobe\0\x64\0\0\0\0"
    assert cmyk.count(marker + b"\0") == 1
    return cmyk.replace(marker + b"\0", marker + b"\2")


# WebP


def riff(*chunks):
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def u24(*values):
    return b"".join(value.to_bytes(3, "little") for value in values)


def make_webp():
    opaque, clear = picture(), picture(mode="RGBA")
    exact = {"format": "webp", "lossless": True, "exact": True}
    add("lossless.webp", saved(opaque, **exact))
    add("lossless-alpha.webp", saved(clear, **exact))
    add("lossy.webp", saved(opaque, format="webp", quality=80))
    add("lossy-alpha.webp", saved(clear, format="webp", quality=80))
    add("lossy-photo.webp", saved(picture(64, 40), format="webp", quality=60))
    add("exif.webp", saved(opaque, **exact, exif=exif(5)))
    add("xmp.webp", saved(opaque, **exact, xmp=b'<x tiff:Orientation="6"/>'))
    frames = {"save_all": True, "append_images": [opaque.transpose(Image.Transpose.ROTATE_180)]}
    add("animated.webp", saved(opaque, **exact, **frames))
    add("animated-alpha.webp", saved(clear, **exact, **frames))
    # A first frame that is smaller than the canvas and half transparent.
    for name, options in (("lossless", exact), ("lossy", {"format": "webp", "quality": 80})):
        still = saved(clear, **options)
        start = 12 if still[12:16] != b"VP8X" else 30
        frame = u24(2, 1, WIDTH - 1, HEIGHT - 1, 100) + b"\0" + still[start:]
        canvas = b"\x12\0\0\0" + u24(WIDTH + 8, HEIGHT + 4)
        loops = (b"ANIM", b"\xff\x40\x80\xff\0\0")
        data = riff((b"VP8X", canvas), loops, (b"ANMF", frame))
        add(f"animated-offset-{name}.webp", data)


# GIF


def gif(screen, colours, frames, background=0):
    """A GIF of frames: left, top, width, height, colours or None, transparent index or None,
    interlaced or not."""
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, 0xF5 if colours else 0, background, 0)
    out += colours or b""
    for left, top, width, height, local, transparent, interlaced in frames:
        if transparent is not None:
            out += b"!\xf9\x04" + bytes([1, 0, 0, transparent, 0])
        flags = (0x85 if local else 0) | (0x40 if interlaced else 0)
        out += b"," + struct.pack("<HHHHB", left, top, width, height, flags) + (local or b"")
        rows = range(height)
        if interlaced:
            passes = ((0, 8), (4, 8), (2, 4), (1, 2))
            rows = [y for start, step in passes for y in range(start, height, step)]
        indices = [(x * 3 + y * 5) % 64 for y in rows for x in range(width)]
        # Codes of seven bits throughout: the dictionary is cleared before it grows further.
        codes = []
        for at in range(0, len(indices), 60):
            codes += [64, *indices[at : at + 60]]
        bits = "".join(f"{code:07b}" for code in reversed([*codes, 65]))
        data = int(bits, 2).to_bytes((len(bits) + 7) // 8, "little")
        blocks = [data[at : at + 255] for at in range(0, len(data), 255)]
        out += b"\6" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    return out + b";"


def make_gif():
    colours = bytes(random.Random(1).randrange(256) for _ in range(3 * 64))
    others = bytes(random.Random(2).randrange(256) for _ in range(3 * 64))
    greys = bytes(v for grey in range(64) for v in [grey] * 3)
    whole = (0, 0, WIDTH, HEIGHT)
    add("plain.gif", gif((WIDTH, HEIGHT), colours, [(*whole, None, None, False)]))
    add("interlaced.gif", gif((WIDTH, HEIGHT), colours, [(*whole, None, None, True)]))
    add("grey.gif", gif((WIDTH, HEIGHT), greys, [(*whole, None, None, False)]))
    add("transparent.gif", gif((WIDTH, HEIGHT), colours, [(*whole, None, 7, False)]))
    add("local.gif", gif((WIDTH, HEIGHT), colours, [(*whole, others, None, False)]))
    part = (3, 2, WIDTH, HEIGHT)
    screen = (WIDTH + 9, HEIGHT + 5)
    add("part.gif", gif(screen, colours, [(*part, None, None, False)], background=9))
    add("part-transparent.gif", gif(screen, colours, [(*part, others, 7, True)], background=9))
    add("beyond.gif", gif((WIDTH, HEIGHT), colours, [(*part, None, 7, False)]))
    several = [(*whole, None, 7, False), (2, 2, 5, 5, others, 3, False)]
    add("several.gif", gif((WIDTH, HEIGHT), colours, several))
    image = picture().convert("P", palette=Image.Palette.ADAPTIVE)
    add("pillow.gif", saved(image, format="gif"))
    frames = [image.rotate(90), image.rotate(180)]
    add("pillow-animated.gif", saved(image, format="gif", save_all=True, append_images=frames))


# Files that claim more than they hold, and kinds that are not read


def make_hostile():
    dot = lambda x, y: (0, 0, 0)
    small = png(8, 2, dot, size=(2, 2))
    for name, width, height in (("large", 60_000, 60_000), ("long", 70_000, 1), ("empty", 0, 5)):
        claim = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        data = small[:8] + chunk(b"IHDR", claim) + small[33:]
        (HERE / f"hostile-{name}.png").write_bytes(data)
    screen = gif((60_000, 60_000), bytes(192), [(0, 0, 1, 1, None, None, False)])
    (HERE / "hostile-screen.gif").write_bytes(screen)
    frame = gif((1, 1), bytes(192), [(65_000, 65_000, 9, 9, None, None, False)])
    (HERE / "hostile-frame.gif").write_bytes(frame)
    jpeg = bytearray(saved(picture(8, 8), format="jpeg"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    (HERE / "hostile.jpg").write_bytes(jpeg)
    still = saved(picture(8, 8), format="webp", lossless=True)
    canvas = b"\x02\0\0\0" + u24(16_000_000, 16_000_000)
    frame = (b"ANMF", u24(0, 0, 7, 7, 100) + b"\0" + still[12:])
    data = riff((b"VP8X", canvas), (b"ANIM", bytes(6)), frame)
    (HERE / "hostile.webp").write_bytes(data)
    for kind in ("bmp", "tiff", "ico"):
        (HERE / f"other.{kind}").write_bytes(saved(picture(4, 4), format=kind))


# Resizing


def make_resized():
    """Sizes up, down, in one direction only and not at all; whole and in part."""
    cases = {
        "photo.png": [(32, 20), (31, 17), (1, 1), (65, 41), (130, 90), (64, 13), (30, 40)]
        + [(64, 40), (5, 200), (200, 5)],
        "grey-1.png": [(64, 40), (7, 5)],
        "size-70x1.png": [(9, 1), (210, 40), (4000, 5)],
        "size-1x9.png": [(1, 4), (16, 30), (3, 5000)],
        "size-1x1.png": [(8, 8)],
    }
    for source, sizes in cases.items():
        image = Image.open(HERE / source).convert("RGB")
        for width, height in sizes:
            whole = image.resize((width, height), Image.Resampling.BICUBIC)
            part = (width // 3, height // 4, max(1, width // 2), max(1, height // 2))
            middle = (width // 3, height // 2, min(width // 3, 40) + 1, min(height // 4, 40) + 1)
            for left, top, columns, rows in ((0, 0, width, height), part, middle):
                # The whole of a large result is told by its parts.
                if columns * rows > 3_000:
                    continue
                crop = [left, top, columns, rows]
                case = {"file": source, "to": [width, height], "crop": crop, "at": len(pixels)}
                resized.append(case)
                pixels.extend(whole.crop((left, top, left + columns, top + rows)).tobytes())


def main():
    for old in HERE.iterdir():
        if old.suffix != ".py":
            old.unlink()
    make_png()
    make_jpeg()
    make_webp()
    make_gif()
    make_hostile()
    make_resized()
    lists = []
    for name, cases in (("decoded", decoded), ("resized", resized)):
        lines = ",\n    ".join(map(json.dumps, cases))
        lists.append(f'  "{name}": [\n    {lines}\n  ]')
    (HERE / "images.json").write_text("{\n" + ",\n".join(lists) + "\n}\n")
    (HERE / "pixels.bin").write_bytes(pixels)


if __name__ == "__main__":
    main()
