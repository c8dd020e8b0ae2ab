"""Logistic regression learns OR and AND; XOR takes a hidden layer.

A network without a hidden layer divides the plane by a straight line. The four points of XOR cannot
be divided so: at best three of them lie on the right side.
"""

import numpy as np

import fastnn

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
GATES = {"OR": [0, 1, 1, 1], "AND": [0, 0, 0, 1], "XOR": [0, 1, 1, 0]}


def learn(gate: str, *hidden: int) -> None:
    y = np.array(GATES[gate])
    net = fastnn.MLP((2, *hidden, 1), activation="tanh", output="sigmoid", dtype="float64")
    net.fit(X, y, epochs=1000, batch_size=None, optimizer="sgd", learning_rate=1.0)
    outputs = "  ".join(f"{f:.2f}" for f in net.forward(X)[:, 0])
    right = int(np.sum(net.predict(X) == y))
    layers = "-".join(map(str, net.layer_sizes))
    print(f"{gate:4} {layers:6} f(00) f(01) f(10) f(11) = {outputs}   {right} of 4 right")


print("no hidden layer: logistic regression")
learn("OR")
learn("AND")
learn("XOR")
print("one hidden layer")
learn("XOR", 4)
