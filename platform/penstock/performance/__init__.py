"""How long engine steps take: the step model, its calibration and its correction from measurements."""
