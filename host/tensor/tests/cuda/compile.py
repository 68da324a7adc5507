"""Compiles a kernel file with NVRTC for an architecture; prints what each kernel takes, as JSON.

compile.py FOLDER FILE ARCH, run by the Python that has the packages of requirements.txt.
"""

import ctypes
import json
import pathlib
import re
import sys
import sysconfig

OPTIONS = ["--std=c++17", "-default-device", "--ptxas-options=-v"]


def nvrtc():
    """The library of the wheel, after the one that it asks the loader for by name."""
    packages = pathlib.Path(sysconfig.get_paths()["purelib"])
    (builtins,) = packages.glob("nvidia/*/lib/libnvrtc-builtins.so.*")
    (library,) = packages.glob("nvidia/*/lib/libnvrtc.so.*")
    ctypes.CDLL(str(builtins))
    return ctypes.CDLL(str(library))


def compile_kernels(library, folder, file, arch):
    """NVRTC's log, which has what ptxas says; an error ends the program with it."""
    headers = sorted(folder.glob("*.cuh"))
    sources = (ctypes.c_char_p * len(headers))(*(h.read_bytes() for h in headers))
    names = (ctypes.c_char_p * len(headers))(*(h.name.encode() for h in headers))
    program = ctypes.c_void_p()
    source = (folder / file).read_bytes()
    created = library.nvrtcCreateProgram(
        ctypes.byref(program), source, file.encode(), len(headers), sources, names
    )
    options = [f"-arch={arch}".encode(), *(option.encode() for option in OPTIONS)]
    result = created or library.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    if result != 0:
        sys.exit(f"{file} for {arch}: NVRTC error {result}\n{log.value.decode()}")
    return log.value.decode()


def usage(log):
    """Registers, stack, spills and shared memory of each entry point in ptxas's words."""
    kernels = {}
    for name, text in re.findall(
        r"Compiling entry function '(\w+)'[^\n]*\n(.*?Used [^\n]*)", log, re.DOTALL
    ):

        def number(pattern):
            found = re.search(pattern, text)
            return int(found[1]) if found else 0

        kernels[name] = {
            "registers": number(r"Used (\d+) registers"),
            "stack": number(r"(\d+) bytes stack frame"),
            "spills": number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
            "shared": number(r"(\d+) bytes smem"),
        }
    return kernels


def main():
    folder, file, arch = sys.argv[1:]
    log = compile_kernels(nvrtc(), pathlib.Path(folder), file, arch)
    warnings = [line for line in log.splitlines() if "warning" in line]
    if warnings:
        sys.exit(f"{file} for {arch}:\n{log}")
    print(json.dumps(usage(log)))


main()
