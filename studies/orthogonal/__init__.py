"""Where orthogonal templates help, and where they do not: trainings with and without the penalty, paired by seed."""
