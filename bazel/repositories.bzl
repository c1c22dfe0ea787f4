"""External repositories that need no network: the Python of .venv, and stand-ins for rules this tree never uses."""

def _venv_python_impl(ctx):
    python = ctx.path(Label("//:WORKSPACE")).dirname.get_child(".venv").get_child("bin").get_child("python")
    if not python.exists:
        fail("%s does not exist; run `make setup` first" % python)
    ctx.file("BUILD", """
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

py_runtime(
    name = "runtime",
    interpreter_path = "%s",
    python_version = "PY3",
)

py_runtime_pair(
    name = "runtime_pair",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":runtime_pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
""" % python)

# A toolchain names its interpreter by an absolute path, which only a repository rule can know.
venv_python = repository_rule(
    implementation = _venv_python_impl,
    local = True,
)

def _stand_in_impl(ctx):
    for path, content in ctx.attr.files.items():
        ctx.file(path, content)

_stand_in = repository_rule(
    implementation = _stand_in_impl,
    attrs = {"files": attr.string_dict(doc = "path in the repository: content")},
)

def _native(rules):
    """Returns a .bzl file whose symbols are the native rules of those names."""
    return "\n".join(["{0} = native.{0}".format(rule) for rule in rules])

def stand_ins():
    """Declares what every py_test makes Bazel load for toolchains and coverage, and would else download."""
    _stand_in(
        name = "remote_coverage_tools",
        files = {"BUILD": """
package(default_visibility = ["//visibility:public"])

filegroup(name = "coverage_report_generator")

filegroup(name = "lcov_merger")
"""},
    )
    _stand_in(
        name = "rules_cc",
        files = {
            "cc/BUILD": "",
            "cc/defs.bzl": _native([
                "cc_binary",
                "cc_library",
                "cc_test",
                "cc_toolchain",
                "cc_toolchain_suite",
            ]),
        },
    )
    _stand_in(
        name = "rules_java",
        files = {
            "java/BUILD": "",
            "java/defs.bzl": _native([
                "java_import",
                "java_runtime",
                "java_toolchain",
            ]),
        },
    )
