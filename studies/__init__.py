"""Studies: questions put to real trainings, each a package that can be stopped and resumed."""
