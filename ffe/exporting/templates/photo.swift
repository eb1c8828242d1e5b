// above it `import CoreImage`; `url`: where the photo lies
let photo = CIImage(contentsOf: url, options: [.applyOrientationProperty: true])!
let width = Int(photo.extent.width), height = Int(photo.extent.height)
var rgba = [UInt8](repeating: 0, count: 4 * width * height)
CIContext(options: [.workingColorSpace: NSNull()]).render(
    photo, toBitmap: &rgba, rowBytes: 4 * width, bounds: photo.extent, format: .RGBA8, colorSpace: nil)
let rgb = (0..<3 * width * height).map { rgba[4 * ($0 / 3) + $0 % 3] }
