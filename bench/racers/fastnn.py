"""fastnn: the data set's own loader, one call of fit that a callback ends."""

from __future__ import annotations

from bench.racers import BATCH_SIZE, LEARNING_RATE, N_HIDDEN, Race, run


def racer(race: Race) -> None:
    """Trains from uint8 pixels; fit evaluates the test images after every epoch."""
    from fastnn import MLP, callbacks, datasets

    race.split("imports")
    X, y, X_test, y_test = datasets.load_mnist(download=False)
    race.split("loading")

    def stop(run: callbacks.Run) -> None:
        run.stop = race.is_over(run.history["val_accuracy"][-1])

    MLP((784, N_HIDDEN, 10), seed=race.seed, n_threads=race.n_threads).fit(
        X,
        y,
        epochs=race.most_epochs,
        batch_size=BATCH_SIZE,
        optimizer="adam",
        learning_rate=LEARNING_RATE,
        validation=(X_test, y_test),
        callbacks=stop,
    )


if __name__ == "__main__":
    run(racer)
