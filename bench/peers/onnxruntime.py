"""ONNX Runtime: prediction with a graph of Gemm, activation and Softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.networks import Case, make_parameters
from bench.peers import Peer, Turns, serve

if TYPE_CHECKING:
    from bench.peers import Forward

ACTIVATION_NODES = {"relu": "Relu", "tanh": "Tanh"}


def _model(case: Case) -> bytes:
    """The network as a file of ONNX's, with a fixed batch size."""
    from onnx import TensorProto, helper, numpy_helper

    parameters = make_parameters(case)
    kinds = [ACTIVATION_NODES[case.activation]] * (len(parameters) - 1)
    kinds += ["Softmax" if case.output == "softmax" else "Identity"]
    nodes, weights = [], []
    for k, ((W, b), kind) in enumerate(zip(parameters, kinds, strict=True), 1):
        weights += [numpy_helper.from_array(W, f"W{k}"), numpy_helper.from_array(b, f"b{k}")]
        nodes.append(helper.make_node("Gemm", [f"h{k - 1}", f"W{k}", f"b{k}"], [f"a{k}"]))
        nodes.append(helper.make_node(kind, [f"a{k}"], [f"h{k}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [case.batch_size, width])
        for name, width in (
            ("h0", case.layer_sizes[0]),
            (f"h{len(parameters)}", case.layer_sizes[-1]),
        )
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def predict(case: Case, n_threads: int | None, turns: Turns) -> Forward:
    """`run`, which is faster than binding inputs and outputs."""
    import onnxruntime

    turns.imported()
    graph = _model(case)
    turns.begin()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads or 0
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda X: session.run(None, {"h0": X})[0]


PEER = Peer("ONNX Runtime", version_of="onnxruntime", predict=predict)

if __name__ == "__main__":
    serve(PEER)
