// rows are brought to `size` pixels, of which `count` are kept; they come back as columns
function pass(rgb, width, height, size, first, count) {
  const out = new Uint8Array(3 * count * height), step = width / size, reach = Math.max(step, 1);
  for (let i = 0; i < count; i++) {
    const middle = (i + first + 0.5) * step, weights = [];
    const from = Math.max(0, Math.floor(middle - @REACH@ * reach + 0.5));
    const to = Math.min(width, Math.floor(middle + @REACH@ * reach + 0.5));
    for (let x = from; x < to; x++) {
      const d = Math.abs(x + 0.5 - middle) / reach;
      weights.push(@FILTER@);
    }
    const sum = weights.reduce((a, b) => a + b), bits = weights.map((w) => Math.round(w / sum * 4194304)); // 22
    for (let y = 0; y < height; y++) for (let c = 0; c < 3; c++) {
      let value = 2097152;
      for (let x = from; x < to; x++) value += bits[x - from] * rgb[3 * (y * width + x) + c];
      out[3 * (i * height + y) + c] = Math.max(0, Math.min(255, Math.floor(value / 4194304)));
    }
  }
  return out;
}
function half(n) { return @HALF@; }
function resized(rgb, width, height) { // -> uint8 (@HEIGHT@, @WIDTH@, 3)
  const across = @ACROSS@, down = @DOWN@;
  const left = half(across - @WIDTH@), top = half(down - @HEIGHT@);
  return pass(pass(rgb, width, height, across, left, @WIDTH@), height, @WIDTH@, down, top, @HEIGHT@);
}
