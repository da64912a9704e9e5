"""Colours of the models, one table for every figure: the same model, the same colour.

Okabe & Ito's, which colour-blind readers tell apart, and two of Tol's where theirs do not suffice.
What must be told apart within a figure also differs in dashes or markers.
"""

DEPTHS = {1: "#0072B2", 2: "#D55E00", 3: "#009E73", 4: "#E69F00", 8: "#CC79A7"}
# The rule at a depth, drawn on top of the networks of that depth.
RULES = {1: "#002F4A", 2: "#662D00", 3: "#004D38", 4: "#6B4A00", 8: "#6B2A4E"}
OTHER, OTHER_RULE = "#999999", "#444444"  # of any other depth
OPTIMIZERS = {"adagrad": "#56B4E9", "adadelta": "#000000", "adadelta_tf1": "#882255"}
# The tutorial network, by what the L2 term acts on: one matrix is depth 1, two are depth 2.
TUTORIAL = {
    ("original", "product"): DEPTHS[1],
    ("overparameterized", "product"): DEPTHS[2],
    ("overparameterized", "factors"): "#882255",
    ("original", "none"): "#56B4E9",
    ("overparameterized", "none"): "#999933",
}
NEUTRAL = "#555555"
# Other networks, by what is factored.
NETWORKS = {"none": DEPTHS[1], "dense": DEPTHS[2], "all": "#882255"}
