// `file`: from <input type="file">, a drop, or fetch(...).blob()
const bitmap = await createImageBitmap(file, {imageOrientation: "from-image", colorSpaceConversion: "none"});
const {width, height} = bitmap, context = new OffscreenCanvas(width, height).getContext("2d");
context.fillStyle = "white"; context.fillRect(0, 0, width, height); context.drawImage(bitmap, 0, 0);
const rgb = Uint8Array.from(context.getImageData(0, 0, width, height).data.filter((_, i) => i % 4 < 3));
