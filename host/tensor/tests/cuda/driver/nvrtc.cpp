// libnvrtc: names the code that the emulated device has already. The functions that Tenon calls.
#include <cstring>
#include <string>

namespace {
enum Status { SUCCESS = 0, COMPILATION = 6 };
struct Program {
    std::string name;
    bool has_kernels;
    std::string code() const { return "emulated " + name; }
};
}  // namespace

extern "C" {

int nvrtcVersion(int* major, int* minor) {
    *major = 13;
    *minor = 0;
    return SUCCESS;
}

int nvrtcCreateProgram(Program** program, const char* source, const char* name, int,
                       const char* const*, const char* const*) {
    *program = new Program{name, strstr(source, "KERNEL(") != nullptr};
    return SUCCESS;
}

int nvrtcCompileProgram(Program* program, int, const char* const*) {
    return program->has_kernels ? SUCCESS : COMPILATION;
}

int nvrtcGetCUBINSize(Program* program, size_t* bytes) {
    *bytes = program->code().size() + 1;
    return SUCCESS;
}

int nvrtcGetCUBIN(Program* program, char* code) {
    strcpy(code, program->code().c_str());
    return SUCCESS;
}

int nvrtcGetProgramLogSize(Program*, size_t* bytes) {
    *bytes = 1;
    return SUCCESS;
}

int nvrtcGetProgramLog(Program*, char* log) {
    *log = 0;
    return SUCCESS;
}

int nvrtcDestroyProgram(Program** program) {
    delete *program;
    return SUCCESS;
}

}  // extern "C"
