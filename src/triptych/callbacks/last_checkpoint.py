"""The state to resume from."""

from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Write ``last.ckpt`` after every epoch.

    Lightning's ``save_last`` writes it only when the best checkpoint is written too: a resumed run would start again
    from its best epoch. A class of its own, for the states of two ModelCheckpoints alike would be one in a checkpoint.
    """

    def __init__(self, dirpath: str) -> None:
        super().__init__(dirpath, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
