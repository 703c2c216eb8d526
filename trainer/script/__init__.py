"""Users' own scripts, in which `trainer.fit` stands where `model.fit` stood.

    session -> arguments -> data -> model -> restore -> callbacks -> train -> the next call

A run of a script is one line of global steps; each call of `fit` makes a stretch of it. Started
again, the script runs from its top: calls that had ended give back what they ended with, and the
one that was broken off goes on.
"""
