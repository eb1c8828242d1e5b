// rows are brought to `size` pixels, of which `count` are kept; they come back as columns
func pass(_ rgb: [UInt8], _ width: Int, _ height: Int, _ size: Int, _ first: Int, _ count: Int) -> [UInt8] {
    var out = [UInt8](repeating: 0, count: 3 * count * height)
    let step = Double(width) / Double(size), reach = max(step, 1)
    for i in 0..<count {
        let middle = (Double(i + first) + 0.5) * step
        let from = max(0, Int((middle - @REACH@ * reach + 0.5).rounded(.down)))
        let to = min(width, Int((middle + @REACH@ * reach + 0.5).rounded(.down)))
        let weights = (from..<to).map { (x: Int) -> Double in
            let d = abs(Double(x) + 0.5 - middle) / reach
            return @FILTER@
        }
        let sum = weights.reduce(0, +), bits = weights.map { Int(($0 / sum * 4194304).rounded()) } // 22
        for y in 0..<height {
            for c in 0..<3 {
                var value = 2097152
                for x in from..<to { value += bits[x - from] * Int(rgb[3 * (y * width + x) + c]) }
                out[3 * (i * height + y) + c] = UInt8(min(max(value >> 22, 0), 255))
            }
        }
    }
    return out
}
func half(_ n: Int) -> Int { @HALF@ }
func resized(_ rgb: [UInt8], _ width: Int, _ height: Int) -> [UInt8] { // -> uint8 (@HEIGHT@, @WIDTH@, 3)
    let across = @ACROSS@, down = @DOWN@
    let turned = pass(rgb, width, height, across, half(across - @WIDTH@), @WIDTH@)
    return pass(turned, height, @WIDTH@, down, half(down - @HEIGHT@), @HEIGHT@)
}
