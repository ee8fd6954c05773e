# A reduction along the only axis, which is empty: IndexError, as the axis was named; it was RuntimeError. Seed 2644.
w1 = data(1, (3,), "float64").requires_grad_()
attempt(lambda: w1[:0].amax(0))
attempt(lambda: w1[:0].min(0))
attempt(lambda: w1[:0].max())
see(w1)
