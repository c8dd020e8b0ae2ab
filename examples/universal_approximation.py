"""One hidden layer approximates any continuous function, the better the wider it is.

The function wiggles with three frequencies; the error is the root mean square over its range.
"""

import numpy as np

import fastnn

x = np.linspace(-1, 1, 512).reshape(-1, 1)
y = np.sin(4 * x) + 0.5 * np.cos(11 * x) + 0.2 * np.sin(23 * x)

print("width  parameters  error")
for width in (1, 2, 4, 8, 16, 32):
    net = fastnn.MLP((1, width, 1), activation="tanh", output="identity")
    # Let the neurons begin as steps side by side: tanh(width * (x - centre)).
    centres = np.linspace(-1, 1, width)
    net.weights = [np.full((width, 1), width), net.weights[1]]
    net.biases = [-width * centres, net.biases[1]]
    for learning_rate in (1e-2, 1e-3, 1e-4):
        net.fit(x, y, epochs=200, batch_size=32, learning_rate=learning_rate)
    error = np.sqrt(np.mean((net.forward(x) - y) ** 2))
    print(f"{width:5}  {net.n_parameters:10}  {error:.4f}")
