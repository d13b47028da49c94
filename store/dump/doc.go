// Package dump reads the files that people bring: embeddings, labels, keys and
// attributes, as Python leaves them on disk, and writes arrays that numpy loads.
//
//	train.npy, test.npz     Open       rows of float32
//	train.safetensors       Open       rows of float32
//	trainfeat.pth           Open       rows of float32
//	train.csv               Open       rows of float32, with keys and labels
//	a request's body        NewStream  one array after another, as they arrive
//	labels.npy, labels.txt  OpenLabels int64, NoLabel where there is none
//	keys.txt                OpenKeys   strings
//	attributes.csv          OpenTable  named columns of int, float, string
//
// # What is read
//
// An .npy of version 1, 2 or 3 and the members of an .npz, stored or deflated:
// float16, float32 and float64 as embeddings; a .safetensors and what torch.save wrote, in either of its
// formats, bfloat16 and views included; integers of every width, booleans and
// strings as labels; either byte order, C and Fortran order. Half precision is
// widened exactly, float64 is rounded to the nearest float32. Text is UTF-8, with
// LF or CRLF. The format is told by the first bytes; of a file that is something
// else (Parquet, HDF5, gzip, …) the error says what it is and
// gives the line of Python that converts it.
//
// # What is promised
//
// Nothing is slurped: arrays are read in chunks of 1 MiB, Fortran order in batches
// of 16 MiB, text record by record. Nothing is believed: the length of a header, the product
// of a shape and the size it implies are compared with the file before anything is
// allocated by them, and with equality: a file that is too short is cut, one that is
// too long holds something else, and numpy would read over that in silence. Nothing
// is guessed: a 1-D array of floats, a table whose first line is half a header, a
// label file of integers with one name in it are errors, each with its remedy.
//
// Nothing is run: a pickle is a program, and of those in torch files only what puts
// plain data together is understood (pickle.go). Any other name in one is an error
// that wraps ErrForbidden.
//
// Every error about a file is an *Error with the path, the row where there is one,
// and what to do. Those about content wrap ErrFormat; those of the operating system
// wrap theirs. Values are not judged: NaN and infinities are given out as they are,
// and the store refuses them with the row.
//
// Readers and writers are for one goroutine. Rows, Labels, Keys and Table are
// independent of one another: that their lengths agree is for the caller to check,
// and all tell their number of rows before the first is read.
package dump
