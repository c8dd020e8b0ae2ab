"""Train on MNIST, or on the digits that come with fastnn where MNIST is not on this machine."""

import fastnn

try:
    X, y, X_test, y_test = fastnn.datasets.load_mnist(download=False)
except FileNotFoundError:
    X, y, X_test, y_test = fastnn.datasets.load_digits_subset()

net = fastnn.MLP((784, 128, 10))
history = net.fit(X, y, epochs=10, batch_size=32, validation=0.1, verbose=True)
print(f"{len(X):,} images, {max(history['samples_per_second']):,.0f} trained on per second")
print(f"test accuracy {100 * net.evaluate(X_test, y_test)['accuracy']:.2f} %")
