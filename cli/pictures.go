package cli

import (
	"bufio"
	"bytes"
	"errors"
	"html/template"
	"image"
	"image/color"
	_ "image/gif" // decoders of what people keep
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Limits of the images that a page holds.
const (
	thumbnail      = 128      // pixels of the longer side
	imageBytes     = 64 << 20 // of a file that is decoded
	imagePixels    = 64 << 20 // that are decoded
	pageBytes      = 48 << 20 // of all thumbnails of a page
	pageQueries    = 500      // of a page
	pageNeighbours = 100      // neighbours of a query
)

// pictures finds the images that keys name inside a directory and makes them
// thumbnails. A key never leads outside of it, and one that names no image gets
// no picture.
type pictures struct {
	root  *os.Root
	seen  map[string]picture
	bytes int
	full  bool // the page holds as many as it may
}

// openPictures takes the directory; without one every picture is missing.
func openPictures(dir string) (*pictures, error) {
	p := &pictures{seen: map[string]picture{}}
	if dir == "" {
		return p, nil
	}
	var err error
	if p.root, err = os.OpenRoot(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, notFound("--images %s: there is no such directory (name the one that keys are paths in)", dir)
		}
		return nil, usage("--images %s: not a directory that can be read (name the one that keys are paths in)", dir)
	}
	return p, nil
}

func (p *pictures) close() {
	if p.root != nil {
		p.root.Close()
	}
}

// of is the picture of a key.
func (p *pictures) of(key string) picture {
	if p.root == nil || key == "" {
		return picture{}
	}
	if found, ok := p.seen[key]; ok {
		return found
	}
	if p.bytes >= pageBytes {
		p.full = true
		return picture{}
	}
	found := p.load(key)
	p.bytes += len(found.URI)
	p.seen[key] = found
	return found
}

func (p *pictures) load(key string) (found picture) {
	p.candidates(key, func(data []byte) (ok bool) {
		found, ok = thumbnailOf(data)
		return ok
	})
	return found
}

// candidates gives the files that a key may mean until one is taken.
func (p *pictures) candidates(key string, take func(data []byte) bool) {
	p.files(key, func(f *os.File) bool {
		data, err := readImage(f)
		return err == nil && take(data)
	})
}

// files opens those files until one is taken.
func (p *pictures) files(key string, take func(f *os.File) bool) {
	for _, ext := range []string{"", ".png", ".jpg", ".jpeg"} {
		f, err := p.root.Open(strings.TrimLeft(key, "/") + ext)
		if err != nil {
			continue
		}
		taken := take(f)
		f.Close()
		if taken {
			return
		}
	}
}

// pixels is the longer side of the image that a key names, 0 if it names none of a
// size that is decoded. Only its beginning is read.
func (p *pictures) pixels(key string) (longer int) {
	if p.root == nil || key == "" {
		return 0
	}
	p.files(key, func(f *os.File) bool {
		if stat, err := f.Stat(); err != nil || !stat.Mode().IsRegular() || stat.Size() > imageBytes {
			return false
		}
		if shape, _, err := image.DecodeConfig(bufio.NewReader(f)); err == nil && drawable(shape) {
			longer = max(shape.Width, shape.Height)
		}
		return longer > 0
	})
	return longer
}

// drawable: an image of this shape is decoded.
func drawable(shape image.Config) bool {
	return shape.Width >= 1 && shape.Height >= 1 && shape.Width <= imagePixels/shape.Height
}

func readImage(f *os.File) ([]byte, error) {
	stat, err := f.Stat()
	if err == nil && (!stat.Mode().IsRegular() || stat.Size() > imageBytes) {
		err = errors.New("not an image")
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, imageBytes))
}

// thumbnailOf decodes an image and makes it small. One that is small already is
// kept without loss.
func thumbnailOf(data []byte) (picture, bool) {
	kind, small, pixels, ok := thumbnailBytes(data)
	return picture{URI: template.URL(dataURI(kind, small)), Small: pixels <= 64}, ok
}

// thumbnailBytes is a thumbnail as a file, with its media type and the pixels of
// the longer side of the image it is made from.
func thumbnailBytes(data []byte) (kind string, small []byte, pixels int, ok bool) {
	shape, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || !drawable(shape) {
		return "", nil, 0, false
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return "", nil, 0, false
	}
	longer := max(shape.Width, shape.Height)
	var out bytes.Buffer
	if longer <= thumbnail {
		if err := png.Encode(&out, img); err != nil {
			return "", nil, 0, false
		}
		return "image/png", out.Bytes(), longer, true
	}
	w, h := max(1, shape.Width*thumbnail/longer), max(1, shape.Height*thumbnail/longer)
	if err := jpeg.Encode(&out, shrink(img, w, h), &jpeg.Options{Quality: 85}); err != nil {
		return "", nil, 0, false
	}
	return "image/jpeg", out.Bytes(), longer, true
}

// shrink averages the pixels that fall into each pixel of a w×h image.
func shrink(img image.Image, w, h int) image.Image {
	from := img.Bounds()
	small := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		y0, y1 := from.Min.Y+y*from.Dy()/h, from.Min.Y+(y+1)*from.Dy()/h
		for x := range w {
			x0, x1 := from.Min.X+x*from.Dx()/w, from.Min.X+(x+1)*from.Dx()/w
			var r, g, b, n uint64
			for v := y0; v < y1; v++ {
				for u := x0; u < x1; u++ {
					cr, cg, cb, ca := img.At(u, v).RGBA()
					white := uint64(0xffff - ca) // what is transparent shows white paper
					r, g, b, n = r+uint64(cr)+white, g+uint64(cg)+white, b+uint64(cb)+white, n+1
				}
			}
			small.SetRGBA(x, y, color.RGBA{uint8(r / n >> 8), uint8(g / n >> 8), uint8(b / n >> 8), 255})
		}
	}
	return small
}
