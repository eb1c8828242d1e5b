// Android 9 or newer; `source`: ImageDecoder.createSource(...), whose photos come upright
val bitmap = ImageDecoder.decodeBitmap(source) { decoder, _, _ -> decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE }
val width = bitmap.width
val height = bitmap.height
val argb = IntArray(width * height).also { bitmap.getPixels(it, 0, width, 0, 0, width, height) }
val rgb = ByteArray(3 * width * height) { (argb[it / 3] shr (16 - 8 * (it % 3))).toByte() }
