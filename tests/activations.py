"""Every way in which rows of activations become bytes, by a readable name."""

from targets._linear import Activation

# the scale of the static ones leaves some of a normal distribution outside, on one side more than on the other
DYNAMIC = {"symmetric": Activation(True), "asymmetric": Activation(False)}
STATIC = {"static": Activation(True, 0.02), "static asymmetric": Activation(False, 0.0173, 97)}
ROTATED = {
    "rotated": Activation(False, rotation=128),
    "rotated symmetric": Activation(True, rotation=16),
    "rotated static": Activation(False, 0.1, 120, 32),
}
ACTIVATIONS = {**DYNAMIC, **STATIC, **ROTATED}
