"""The command line."""

import gc

# Almost nothing that a start makes is garbage; looking for it took 60 ms. `cli.loop` looks more often.
gc.set_threshold(1_000_000, 20, 100)
