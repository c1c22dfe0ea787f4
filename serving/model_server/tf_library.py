"""The functions of TensorFlow's C API that `tf_session` calls, and how; they are public, and stay as they are."""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import tensorflow as tf

_LIBRARY = os.path.join(tf.sysconfig.get_lib(), "libtensorflow_cc.so.2")
# Through the one, Python's lock is let go during the call; through the other it is kept, which is cheaper for what is
# done in a microsecond, and saves it a wait for the lock.
_long = ctypes.CDLL(_LIBRARY)
_short = ctypes.PyDLL(_LIBRARY)

Pointer = ctypes.c_void_p

_NICE = 10
has_pools = False  # whether TensorFlow has started the threads that all sessions share


class Buffer(ctypes.Structure):
    _fields_ = (("data", Pointer), ("length", ctypes.c_size_t), ("deallocator", Pointer))


class Output(ctypes.Structure):
    _fields_ = (("operation", Pointer), ("index", ctypes.c_int))


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


Sizes = ctypes.POINTER(ctypes.c_int64)
new_status = _function(_short, "TF_NewStatus", Pointer)
delete_status = _function(_short, "TF_DeleteStatus", None, Pointer)
code_of = _function(_short, "TF_GetCode", ctypes.c_int, Pointer)
message_of = _function(_short, "TF_Message", ctypes.c_char_p, Pointer)
new_graph = _function(_short, "TF_NewGraph", Pointer)
delete_graph = _function(_long, "TF_DeleteGraph", None, Pointer)
operation = _function(_short, "TF_GraphOperationByName", Pointer, Pointer, ctypes.c_char_p)
outputs_of = _function(_short, "TF_OperationNumOutputs", ctypes.c_int, Pointer)
new_options = _function(_short, "TF_NewSessionOptions", Pointer)
delete_options = _function(_short, "TF_DeleteSessionOptions", None, Pointer)
set_config = _function(_short, "TF_SetConfig", None, Pointer, ctypes.c_char_p, ctypes.c_size_t, Pointer)
new_buffer = _function(_short, "TF_NewBuffer", ctypes.POINTER(Buffer))
delete_buffer = _function(_short, "TF_DeleteBuffer", None, ctypes.POINTER(Buffer))
load_session = _function(
    _long,
    "TF_LoadSessionFromSavedModel",
    Pointer,
    *(Pointer, Pointer, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_int),
    *(Pointer, ctypes.POINTER(Buffer), Pointer),
)
run_session = _function(
    _long,
    "TF_SessionRun",
    None,
    *(Pointer, Pointer, ctypes.POINTER(Output), ctypes.POINTER(Pointer), ctypes.c_int),
    *(ctypes.POINTER(Output), ctypes.POINTER(Pointer), ctypes.c_int),
    *(ctypes.POINTER(Pointer), ctypes.c_int, Pointer, Pointer),
)
new_operation = _function(_short, "TF_NewOperation", Pointer, Pointer, ctypes.c_char_p, ctypes.c_char_p)
set_attr_type = _function(_short, "TF_SetAttrType", None, Pointer, ctypes.c_char_p, ctypes.c_int)
set_attr_tensor = _function(_long, "TF_SetAttrTensor", None, Pointer, ctypes.c_char_p, Pointer, Pointer)
finish_operation = _function(_short, "TF_FinishOperation", Pointer, Pointer, Pointer)
new_buffer_of = _function(_short, "TF_NewBufferFromString", ctypes.POINTER(Buffer), ctypes.c_char_p, ctypes.c_size_t)
new_import = _function(_short, "TF_NewImportGraphDefOptions", Pointer)
delete_import = _function(_short, "TF_DeleteImportGraphDefOptions", None, Pointer)
set_import_prefix = _function(_short, "TF_ImportGraphDefOptionsSetPrefix", None, Pointer, ctypes.c_char_p)
map_input = _function(
    *(_short, "TF_ImportGraphDefOptionsAddInputMapping", None),
    *(Pointer, ctypes.c_char_p, ctypes.c_int, Output),
)
map_control = _function(
    _short, "TF_ImportGraphDefOptionsRemapControlDependency", None, Pointer, ctypes.c_char_p, Pointer
)
import_graph = _function(_long, "TF_GraphImportGraphDef", None, Pointer, ctypes.POINTER(Buffer), Pointer, Pointer)
extend_session = _function(_long, "TF_ExtendSession", None, Pointer, Pointer)
close_session = _function(_long, "TF_CloseSession", None, Pointer, Pointer)
delete_session = _function(_long, "TF_DeleteSession", None, Pointer, Pointer)
allocate_tensor = _function(_short, "TF_AllocateTensor", Pointer, ctypes.c_int, Sizes, ctypes.c_int, ctypes.c_size_t)
new_tensor = _function(
    *(_short, "TF_NewTensor", Pointer),
    *(ctypes.c_int, Sizes, ctypes.c_int, Pointer, ctypes.c_size_t, Pointer, Pointer),
)
delete_tensor = _function(_short, "TF_DeleteTensor", None, Pointer)
data_of = _function(_short, "TF_TensorData", Pointer, Pointer)
type_of = _function(_short, "TF_TensorType", ctypes.c_int, Pointer)
bytes_of = _function(_short, "TF_TensorByteSize", ctypes.c_size_t, Pointer)
rank_of = _function(_short, "TF_NumDims", ctypes.c_int, Pointer)
size_of = _function(_short, "TF_Dim", ctypes.c_int64, Pointer, ctypes.c_int)
string_copy = _function(_short, "TF_StringCopy", None, Pointer, ctypes.c_char_p, ctypes.c_size_t)
string_free = _function(_short, "TF_StringDealloc", None, Pointer)
string_data = _function(_short, "TF_StringGetDataPointer", Pointer, Pointer)
string_size = _function(_short, "TF_StringGetSize", ctypes.c_size_t, Pointer)


class Status:
    """A status of TensorFlow's; leaving it raises what it holds."""

    def __enter__(self) -> int:
        self._status = new_status()
        return self._status

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        code, message = code_of(self._status), message_of(self._status).decode(errors="replace")
        delete_status(self._status)
        if code and error is None:
            raise tf.compat.v1.errors.exception_type_from_error_code(code)(None, None, message)


def gently(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of TensorFlow's gives, in a thread that leaves the processor to those that answer requests.

    Not Python's own work: it would hold Python's lock while it waits for the processor. Nor anything that starts
    threads which are to answer requests: they would be as modest.
    """
    if not has_pools or sys.platform != "linux":  # elsewhere the whole process would be
        return function(*arguments)
    done: futures.Future[Any] = futures.Future()

    def work() -> None:
        try:
            with contextlib.suppress(OSError):  # where it may not be modest, it is not
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICE)
            done.set_result(function(*arguments))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, name="load", daemon=True).start()
    interrupted: BaseException | None = None
    while not done.done():
        try:
            futures.wait([done])
        except BaseException as error:  # a Ctrl-C: the caller must not free what TensorFlow still works on
            interrupted = error
    if interrupted is not None:
        raise interrupted
    return done.result()
