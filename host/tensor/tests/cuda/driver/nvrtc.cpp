// NVRTC as far as the driver's emulation needs it: code is a line that names its source.
#include <cstring>
#include <string>

#include "cuda.h"

enum nvrtcResult : int {
    NVRTC_SUCCESS = 0,
    NVRTC_ERROR_INVALID_INPUT = 3,
    NVRTC_ERROR_INVALID_PROGRAM = 4,
    NVRTC_ERROR_INVALID_OPTION = 5,
    NVRTC_ERROR_COMPILATION = 6,
};

struct Program {
    std::string name, source;
    // What the device's code and the log are, once it is compiled; the code may be none.
    std::string code, assembly, log;
};

EXPORT nvrtcResult nvrtcVersion(int* major, int* minor) {
    *major = 13;
    *minor = 0;
    return NVRTC_SUCCESS;
}

EXPORT nvrtcResult nvrtcCreateProgram(Program** program, const char* source, const char* name,
                                      int headers, const char* const* texts,
                                      const char* const* include_names) {
    bool headers_missing = headers > 0 && (!texts || !include_names);
    if (!program || !source || headers < 0 || headers_missing) return NVRTC_ERROR_INVALID_INPUT;
    *program = new Program{name ? name : "default_program", source, {}, {}, {}};
    return NVRTC_SUCCESS;
}

// A real architecture gives code, a virtual one or none assembly only.
EXPORT nvrtcResult nvrtcCompileProgram(Program* program, int options, const char* const* texts) {
    if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
    bool real = false;
    for (int i = 0; i < options; i++) {
        std::string option = texts[i];
        if (option.empty() || option[0] != '-') return NVRTC_ERROR_INVALID_OPTION;
        real |= option.find("arch") != std::string::npos && option.find("=sm_") != std::string::npos;
    }
    if (program->source.find("KERNEL") == std::string::npos) {
        program->log = program->name + ": error: no kernel is defined\n";
        return NVRTC_ERROR_COMPILATION;
    }
    program->assembly = "emulated code of " + program->name;
    program->code = real ? program->assembly : "";
    return NVRTC_SUCCESS;
}

// Texts end with a zero, which counts.
static nvrtcResult size_of(const Program* program, const std::string Program::*text, size_t* size) {
    if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
    *size = (program->*text).size() + 1;
    return NVRTC_SUCCESS;
}

static nvrtcResult copy_of(const Program* program, const std::string Program::*text, char* to) {
    if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
    memcpy(to, (program->*text).c_str(), (program->*text).size() + 1);
    return NVRTC_SUCCESS;
}

EXPORT nvrtcResult nvrtcGetCUBINSize(Program* program, size_t* size) {
    if (program && program->code.empty()) {
        *size = 0;
        return NVRTC_SUCCESS;
    }
    return size_of(program, &Program::code, size);
}

EXPORT nvrtcResult nvrtcGetCUBIN(Program* program, char* cubin) {
    if (program && program->code.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
    return copy_of(program, &Program::code, cubin);
}

EXPORT nvrtcResult nvrtcGetPTXSize(Program* program, size_t* size) {
    return size_of(program, &Program::assembly, size);
}

EXPORT nvrtcResult nvrtcGetPTX(Program* program, char* ptx) {
    return copy_of(program, &Program::assembly, ptx);
}

EXPORT nvrtcResult nvrtcGetProgramLogSize(Program* program, size_t* size) {
    return size_of(program, &Program::log, size);
}

EXPORT nvrtcResult nvrtcGetProgramLog(Program* program, char* log) {
    return copy_of(program, &Program::log, log);
}

EXPORT nvrtcResult nvrtcDestroyProgram(Program** program) {
    if (!program || !*program) return NVRTC_ERROR_INVALID_PROGRAM;
    delete *program;
    *program = nullptr;
    return NVRTC_SUCCESS;
}

EXPORT const char* nvrtcGetErrorString(nvrtcResult result) {
    switch (result) {
        case NVRTC_SUCCESS:
            return "NVRTC_SUCCESS";
        case NVRTC_ERROR_INVALID_INPUT:
            return "NVRTC_ERROR_INVALID_INPUT";
        case NVRTC_ERROR_INVALID_PROGRAM:
            return "NVRTC_ERROR_INVALID_PROGRAM";
        case NVRTC_ERROR_INVALID_OPTION:
            return "NVRTC_ERROR_INVALID_OPTION";
        case NVRTC_ERROR_COMPILATION:
            return "NVRTC_ERROR_COMPILATION";
    }
    return "NVRTC_ERROR unknown";
}
