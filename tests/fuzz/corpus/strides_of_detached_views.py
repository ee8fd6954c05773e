# detach() of a view forgot its strides, and with them that view(-1) is refused. Seed 14008.
x1 = data(1, (4, 3), "float32")
w2 = data(2, (3, 2), "float32").requires_grad_()
for u in (x1[::2].detach(), x1.T.detach(), x1[:, 1:].data, w2.T.detach()):
    look(u)
    attempt(lambda: see(u.view(-1)))
    u *= 0.5
see(x1)
see(w2)
