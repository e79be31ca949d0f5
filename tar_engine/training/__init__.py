"""How the network is taught, and how well the engine does.

`patches`, `synthesis` and `training_set` are pairs with a known truth, `augment` their looks;
`train` (the loop), `train_low` and `losses` teach; `protocols` are frozen warps and `evaluate`
the figures. Imports everything below; nothing in the engine imports it, and inference needs none
of it.
"""
