// rows are brought to `size` pixels, of which `count` are kept; they come back as columns
fun pass(rgb: ByteArray, width: Int, height: Int, size: Int, first: Int, count: Int): ByteArray {
    val out = ByteArray(3 * count * height)
    val step = width.toDouble() / size
    val reach = maxOf(step, 1.0)
    for (i in 0 until count) {
        val middle = (i + first + 0.5) * step
        val from = maxOf(0, Math.floor(middle - @REACH@ * reach + 0.5).toInt())
        val to = minOf(width, Math.floor(middle + @REACH@ * reach + 0.5).toInt())
        val weights = DoubleArray(to - from) {
            val d = Math.abs(from + it + 0.5 - middle) / reach
            @FILTER@
        }
        val sum = weights.sum()
        val bits = LongArray(to - from) { Math.round(weights[it] / sum * 4194304) } // 22
        for (y in 0 until height) for (c in 0 until 3) {
            var value = 2097152L
            for (x in from until to) value += bits[x - from] * (rgb[3 * (y * width + x) + c].toInt() and 255)
            out[3 * (i * height + y) + c] = (value shr 22).toInt().coerceIn(0, 255).toByte()
        }
    }
    return out
}
fun half(n: Int) = @HALF@
fun resized(rgb: ByteArray, width: Int, height: Int): ByteArray { // -> uint8 (@HEIGHT@, @WIDTH@, 3)
    val across = @ACROSS@
    val down = @DOWN@
    val turned = pass(rgb, width, height, across, half(across - @WIDTH@), @WIDTH@)
    return pass(turned, height, @WIDTH@, down, half(down - @HEIGHT@), @HEIGHT@)
}
