"""Compiled inner loops of ``ffe.heads.mlp_batched``: one epoch of many small networks side by side.

Arrays, as all of these functions take them:
    x float32 (N, d), or starts int64 (N + 1,), columns int32 and values float32
    of what is not zero; mean and inverse float32 (d,), the affine map of dense
    rows; kernel and square float32 (d, U), the first layers side by side and
    RMSprop's mean squares; small float32, all other weights of all networks, each
    network's in one piece (bias, then kernel and bias of each further layer);
    shape int64 (L, 5): first column, units, extra, outputs, first small weight;
    numbers float32 (L, 3): dropout, learning rate, l2.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ffe.base.compiled import compiled

RHO = 0.9  # Keras's defaults of RMSprop
EPSILON = 1e-7

_BLOCK = 64  # rows of a kernel that stay in the second-level cache
_NOTHING = 1e-30  # mean squares below it are taken as zero: arithmetic on the tiniest numbers is slow


_compiled = partial(compiled, fast=True)


@_compiled
def _gather(x, starts, columns, values, sparse, mean, inverse, affine, batch, dense):  # type: ignore[no-untyped-def]
    """Copy the rows of a batch into ``dense`` (b, d), unless they are sparse."""
    if not sparse:
        for k in range(len(batch)):
            row = x[batch[k]]
            if affine:
                for j in range(len(row)):
                    dense[k, j] = (row[j] - mean[j]) * inverse[j]
            else:
                for j in range(len(row)):
                    dense[k, j] = row[j]


@_compiled
def _first_layer(starts, columns, values, sparse, batch, dense, kernel, hidden):  # type: ignore[no-untyped-def]
    """Set ``hidden`` (b, U) to the product of the batch and the kernels side by side."""
    if sparse:
        width = kernel.shape[1]
        for k in range(len(batch)):
            hidden[k, :] = np.float32(0)
            for i in range(starts[batch[k]], starts[batch[k] + 1]):
                weights, value = kernel[columns[i]], values[i]
                for j in range(width):
                    hidden[k, j] += value * weights[j]
    else:
        np.dot(dense, kernel, hidden)


@_compiled
def _rmsprop(weight, square, gradient, rate, l2):  # type: ignore[no-untyped-def]
    """Take one step of RMSprop on the weights (n,) of one kind."""
    for j in range(len(weight)):
        g = gradient[j] + np.float32(2) * l2 * weight[j]
        s = np.float32(RHO) * square[j] + np.float32(1 - RHO) * g * g
        square[j] = s if s > np.float32(_NOTHING) else np.float32(0)
        weight[j] -= rate * (g / np.sqrt(s + np.float32(EPSILON)))


@_compiled
def _rmsprop_plain(weight, square, gradient, rate, decay):  # type: ignore[no-untyped-def]
    """Take one step of RMSprop without a penalty; ``rate`` (n,) of each weight."""
    for j in range(len(weight)):
        g = gradient[j]
        s = decay * square[j] + np.float32(1 - RHO) * g * g
        square[j] = s if s > np.float32(_NOTHING) else np.float32(0)
        weight[j] -= rate[j] * (g / np.sqrt(s + np.float32(EPSILON)))


@_compiled
def _hidden_layers(hidden, small, shape, active, upper):  # type: ignore[no-untyped-def]
    """Set ``active`` (b, units) and ``upper`` (b, extra) to the hidden layers of a network, from the products (b, U)."""
    first, units, extra, at = shape[0], shape[1], shape[2], shape[4]
    kernel2, bias2 = at + units, at + units + units * extra
    for k in range(hidden.shape[0]):
        for j in range(units):
            active[k, j] = max(hidden[k, first + j] + small[at + j], np.float32(0))
        for m in range(extra):
            total = small[bias2 + m]
            for j in range(units):
                total += active[k, j] * small[kernel2 + j * extra + m]
            upper[k, m] = max(total, np.float32(0))


@_compiled
def _output_layer(hidden, small, shape, active, upper, scores):  # type: ignore[no-untyped-def]
    """Go from the first layer's products (b, U) to ``scores`` (b, outputs) of one network, as ``_hidden_layers``; no dropout."""
    units, extra, outputs, at = shape[1], shape[2], shape[3], shape[4]
    below = extra if extra > 0 else units
    kernel3 = at + units + units * extra + extra
    bias3 = kernel3 + below * outputs
    _hidden_layers(hidden, small, shape, active, upper)
    for k in range(hidden.shape[0]):
        for o in range(outputs):
            total = small[bias3 + o]
            for j in range(below):
                total += (upper[k, j] if extra > 0 else active[k, j]) * small[kernel3 + j * outputs + o]
            scores[k, o] = total


@_compiled
def _loss_and_gradient(scores, label, weight, size):  # type: ignore[no-untyped-def]
    """Turn the logits (outputs,) of a row into the gradient of its share of the mean loss; return (loss, right)."""
    outputs = len(scores)
    if outputs == 1:
        score, target = scores[0], np.float32(label)
        loss = max(score, np.float32(0)) - score * target + np.log1p(np.exp(-abs(score)))
        right = (score > 0) == (label == 1)
        scores[0] = weight * (np.float32(1) / (np.float32(1) + np.exp(-score)) - target) / size
        return weight * loss, right
    largest, answer = scores[0], 0
    for o in range(1, outputs):
        if scores[o] > largest:
            largest, answer = scores[o], o
    total = np.float32(0)
    for o in range(outputs):
        total += np.exp(scores[o] - largest)
    loss = np.log(total) + largest - scores[label]
    for o in range(outputs):
        share = np.exp(scores[o] - largest) / total
        scores[o] = weight * (share - (np.float32(1) if o == label else np.float32(0))) / size
    return weight * loss, answer == label


@_compiled
def _step_of_network(hidden, labels, weights, batch, small, square, shape, numbers, random, network, gradient):  # type: ignore[no-untyped-def]
    """Take one step of a network's small layers; leave the gradient of the first layer in ``hidden``. Return (loss, right)."""
    first, units, extra, outputs, at = shape[0], shape[1], shape[2], shape[3], shape[4]
    dropout, rate, l2 = numbers[0], numbers[1], numbers[2]
    below = extra if extra > 0 else units
    kernel2, bias2 = at + units, at + units + units * extra
    kernel3 = bias2 + extra
    bias3 = kernel3 + below * outputs
    size = len(batch)
    active, upper = np.empty((size, units), np.float32), np.empty((size, extra), np.float32)
    scores = np.empty((size, outputs), np.float32)
    mask = np.ones((size, below), np.float32)
    if dropout > 0:
        state = random[network]
        kept = np.float32(1) / (np.float32(1) - dropout)
        for k in range(size):
            for j in range(below):
                # xorshift64, Marsaglia 2003
                state ^= state << np.uint64(13)
                state ^= state >> np.uint64(7)
                state ^= state << np.uint64(17)
                share = np.float32(state >> np.uint64(40)) * np.float32(1 / 16777216)
                mask[k, j] = kept if share >= dropout else np.float32(0)
        random[network] = state
    _hidden_layers(hidden, small, shape, active, upper)
    last = upper if extra > 0 else active
    loss, right = 0.0, 0
    gradient[:] = np.float32(0)
    for k in range(size):
        for o in range(outputs):
            scores[k, o] = small[bias3 + o]
        for j in range(below):
            value = last[k, j] * mask[k, j]
            if value != 0:
                for o in range(outputs):
                    scores[k, o] += value * small[kernel3 + j * outputs + o]
        row_loss, row_right = _loss_and_gradient(scores[k], labels[batch[k]], weights[batch[k]], np.float32(size))
        loss += row_loss
        right += row_right
        for o in range(outputs):
            gradient[bias3 - at + o] += scores[k, o]
        for j in range(below):
            value, back = last[k, j] * mask[k, j], np.float32(0)
            for o in range(outputs):
                gradient[kernel3 - at + j * outputs + o] += value * scores[k, o]
                back += small[kernel3 + j * outputs + o] * scores[k, o]
            # from here on `last` holds the gradient before its ReLU
            last[k, j] = back * mask[k, j] if last[k, j] > 0 else np.float32(0)
        if extra > 0:
            for m in range(extra):
                gradient[bias2 - at + m] += upper[k, m]
            for j in range(units):
                back = np.float32(0)
                for m in range(extra):
                    gradient[kernel2 - at + j * extra + m] += active[k, j] * upper[k, m]
                    back += small[kernel2 + j * extra + m] * upper[k, m]
                active[k, j] = back if active[k, j] > 0 else np.float32(0)
        for j in range(units):
            gradient[j] += active[k, j]
            hidden[k, first + j] = active[k, j]
    none, end = np.float32(0), bias3 + outputs
    _rmsprop(small[at:kernel2], square[at:kernel2], gradient, rate, none)
    _rmsprop(small[kernel2:bias2], square[kernel2:bias2], gradient[kernel2 - at :], rate, l2)
    _rmsprop(small[bias2:kernel3], square[bias2:kernel3], gradient[bias2 - at :], rate, none)
    _rmsprop(small[kernel3:bias3], square[kernel3:bias3], gradient[kernel3 - at :], rate, l2)
    _rmsprop(small[bias3:end], square[bias3:end], gradient[bias3 - at :], rate, none)
    return loss, right


@_compiled
def _update_sparse(starts, columns, values, batch, hidden, kernel, square, rates, penalties, penalised, last, step, head):  # type: ignore[no-untyped-def]
    """Update the kernel rows of the features that some row of the batch has; of all, where there is a penalty."""
    width = kernel.shape[1]
    total = 0
    for k in range(len(batch)):
        total += starts[batch[k] + 1] - starts[batch[k]]
    following, owner = np.empty(total, np.int32), np.empty(total, np.int32)
    value = np.empty(total, np.float32)
    touched, count, entry = np.empty(kernel.shape[0], np.int32), 0, 0
    for k in range(len(batch)):
        for i in range(starts[batch[k]], starts[batch[k] + 1]):
            column = columns[i]
            if head[column] < 0:
                touched[count] = column
                count += 1
            following[entry], owner[entry], value[entry] = head[column], k, values[i]
            head[column] = entry
            entry += 1
    if penalised:
        count = kernel.shape[0]
    gradient = np.empty(width, np.float32)
    for t in range(count):
        row = t if penalised else touched[t]
        gradient[:] = np.float32(0)
        i = head[row]
        while i >= 0:
            share, back = value[i], hidden[owner[i]]
            for j in range(width):
                gradient[j] += share * back[j]
            i = following[i]
        head[row] = -1
        if penalised:
            for j in range(width):
                gradient[j] += np.float32(2) * penalties[j] * kernel[row, j]
        decay = np.float32(RHO ** (step - last[row]))
        last[row] = step
        _rmsprop_plain(kernel[row], square[row], gradient, rates, decay)


@_compiled
def _update_dense(dense, hidden, kernel, square, rates, penalties, penalised):  # type: ignore[no-untyped-def]
    """Update all kernel rows, a block that fits the cache at a time."""
    across = np.ascontiguousarray(dense.T)
    block = np.empty((_BLOCK, kernel.shape[1]), np.float32)
    for start in range(0, kernel.shape[0], _BLOCK):
        stop = min(start + _BLOCK, kernel.shape[0])
        gradient = block[: stop - start]
        np.dot(across[start:stop], hidden, gradient)
        for i in range(stop - start):
            if penalised:
                for j in range(kernel.shape[1]):
                    gradient[i, j] += np.float32(2) * penalties[j] * kernel[start + i, j]
            _rmsprop_plain(kernel[start + i], square[start + i], gradient[i], rates, np.float32(RHO))


@_compiled
def train_epoch(  # type: ignore[no-untyped-def]
    x, starts, columns, values, sparse, mean, inverse, affine, labels, weights, order, batch_size, kernel, small, shape, numbers,
    square, small_square, last, step, random, losses, correct,
):  # fmt: skip
    """Train all networks for one epoch; return the number of the last step."""
    width, networks = kernel.shape[1], len(shape)
    rates, penalties = np.empty(width, np.float32), np.empty(width, np.float32)
    widest, penalised = 0, False
    for network in range(networks):
        first, units, extra, outputs = shape[network, 0], shape[network, 1], shape[network, 2], shape[network, 3]
        rates[first : first + units] = numbers[network, 1]
        penalties[first : first + units] = numbers[network, 2]
        penalised = penalised or numbers[network, 2] > 0
        below = extra if extra > 0 else units
        widest = max(widest, units + units * extra + extra + below * outputs + outputs)
    gradient = np.empty(widest, np.float32)
    head = np.full(kernel.shape[0] if sparse else 1, -1, np.int32)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        step += 1
        dense = np.empty((0 if sparse else len(batch), kernel.shape[0]), np.float32)
        hidden = np.empty((len(batch), width), np.float32)
        _gather(x, starts, columns, values, sparse, mean, inverse, affine, batch, dense)
        _first_layer(starts, columns, values, sparse, batch, dense, kernel, hidden)
        for network in range(networks):
            loss, right = _step_of_network(
                hidden, labels, weights, batch, small, small_square, shape[network], numbers[network], random, network, gradient
            )
            losses[network] += loss
            correct[network] += right
        if sparse:
            _update_sparse(starts, columns, values, batch, hidden, kernel, square, rates, penalties, penalised, last, step, head)
        else:
            _update_dense(dense, hidden, kernel, square, rates, penalties, penalised)
    return step


@_compiled
def score(x, starts, columns, values, sparse, mean, inverse, affine, held, kernel, small, shape, numbers, scores):  # type: ignore[no-untyped-def]
    """Set ``scores`` (m, networks, outputs) to the logits of the held rows."""
    for start in range(0, len(held), _BLOCK):
        batch = held[start : start + _BLOCK]
        dense = np.empty((0 if sparse else len(batch), kernel.shape[0]), np.float32)
        hidden = np.empty((len(batch), kernel.shape[1]), np.float32)
        _gather(x, starts, columns, values, sparse, mean, inverse, affine, batch, dense)
        _first_layer(starts, columns, values, sparse, batch, dense, kernel, hidden)
        for network in range(len(shape)):
            active = np.empty((len(batch), shape[network, 1]), np.float32)
            upper = np.empty((len(batch), shape[network, 2]), np.float32)
            _output_layer(hidden, small, shape[network], active, upper, scores[start : start + len(batch), network])
