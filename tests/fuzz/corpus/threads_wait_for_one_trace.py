# Two threads use pending tensors, with gradients, of the thread that waits for them: both ran its trace, and one of
# them found it half run ("an operation this tensor depends on failed"). Seed 2457.
w1 = data(1, (2, 3), "float32").requires_grad_()
for i in range(40):
    t2 = in_threads(lambda u: descend(u, 3).sum(), [w1 * 0.5, w1.cos()])
    see(t2[0] + t2[1])
