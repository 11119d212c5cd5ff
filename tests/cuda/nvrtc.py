"""Compiles src/cuda/kernels with NVRTC.

    nvrtc.py LIBNVRTC check        for the chips below, down to machine code; tells registers and spills
    nvrtc.py LIBNVRTC write PTX    writes PTX for compute capability 8.0 and newer
"""

import ctypes
import pathlib
import re
import sys

KERNELS = pathlib.Path(__file__).resolve().parent.parent.parent / "src/cuda/kernels"
CHIPS = ["sm_80", "sm_90"]
OLDEST = "compute_80"


def text():
    """The whole text, as src/cuda/source.rs puts it together."""
    out = ""
    for line in (KERNELS / "kernels.cu").read_text().splitlines():
        name = re.fullmatch(r'#include "(.*)"', line)
        out += (KERNELS / name[1]).read_text() if name else line + "\n"
    return out


def fingerprint(data):
    """FNV-1a of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


class Nvrtc:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def compile(self, source, options, result):
        """`result`: PTX or CUBIN. Gives the bytes and the compiler's log; ends the program when it refuses."""
        program = ctypes.c_void_p()
        self.library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None
        )
        texts = [option.encode() for option in options]
        failed = self.library.nvrtcCompileProgram(
            program, len(texts), (ctypes.c_char_p * len(texts))(*texts)
        )
        log = self.get(program, "ProgramLog").decode().rstrip("\0")
        if failed:
            sys.exit(f"NVRTC {self.version} {options}:\n{log}")
        return self.get(program, result), log

    def get(self, program, what):
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        data = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{what}")(program, data)
        return data.raw


def check(nvrtc):
    for chip in CHIPS:
        options = ["--std=c++17", f"--gpu-architecture={chip}", "--ptxas-options=--verbose"]
        code, log = nvrtc.compile(text(), options, "CUBIN")
        print(f"NVRTC {nvrtc.version}, {chip}: {len(code)} bytes of machine code")
        entry = ""
        for line in log.splitlines():
            found = re.search(r"entry function '(\w+)'", line)
            entry = found[1] if found else entry
            if "bytes stack frame" in line or "Used " in line:
                print(f"  {entry}: {line.split(':', 1)[-1].strip()}")
            elif "warning" in line:
                sys.exit(line)


def write(nvrtc, path):
    options = ["--std=c++17", f"--gpu-architecture={OLDEST}"]
    ptx, _ = nvrtc.compile(text(), options, "PTX")
    body = ptx.decode().rstrip("\0")
    # What the compiler says about itself changes with its builds, the code does not.
    body = re.sub(r"\A(//.*\n|\s*\n)*", "", body)
    body = re.sub(r"[ \t]+$", "", body, flags=re.M)
    first = f"// of kernels.cu, FNV-1a {fingerprint(text()):016x}\n"
    pathlib.Path(path).write_text(first + body)


def main():
    nvrtc = Nvrtc(sys.argv[1])
    if sys.argv[2] == "check":
        check(nvrtc)
    else:
        write(nvrtc, sys.argv[3])


main()
