"""Writes the files of this directory: python3 make.py SHARED_DATA_DIRECTORY"""
import hashlib
import json
import os
import sys

import numpy as np

shared = sys.argv[1]
os.chdir(os.path.dirname(os.path.abspath(__file__)))
x = np.load(os.path.join(shared, 'formats/f32_c.npy'))[:32]
y = np.load(os.path.join(shared, 'formats/labels_int64.npy'))[:32]
keys = [line.strip() for line in open(os.path.join(shared, 'train_keys.txt'))][:16]
F = np.asfortranarray

# Embeddings: 32 rows, or the first 16 of them.
np.save('f32_c.npy', x)
np.save('f32_fortran.npy', F(x))
np.save('f32_bigendian.npy', x.astype('>f4'))
np.save('f16.npy', x.astype('<f2'))
np.save('f16_bigendian.npy', x.astype('>f2'))
np.save('f16_fortran.npy', F(x[:16].astype('<f2')))
np.save('f64.npy', x.astype('<f8'))
np.save('f64_bigendian_fortran.npy', F(x[:16].astype('>f8')))
for v in (2, 3):
    with open(f'f32_header_v{v}.npy', 'wb') as f:
        np.lib.format.write_array(f, x[:16], version=(v, 0))
np.savez('uncompressed.npz', features=x, labels=y)
np.savez_compressed('compressed.npz', features=x, labels=y)
np.savez('uncompressed_fortran.npz', features=F(x[:16]))
np.savez_compressed('compressed_fortran.npz', features=F(x[:16]))
with open('features.csv', 'w') as f:
    f.write('key,label,' + ','.join(f'f{i}' for i in range(256)) + '\n')
    for i in range(16):
        f.write(f'{keys[i]},{y[i]},' + ','.join('%.9g' % v for v in x[i]) + '\n')
np.savetxt('savetxt.txt', x[:4, :8])
np.savetxt('savetxt.csv', x[:4, :8], delimiter=',')

# Labels.
for d in ('int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64'):
    np.save(f'labels_{d}.npy', y.astype(d))
    if not d.endswith('int8'):
        np.save(f'labels_{d}_be.npy', y.astype(np.dtype(d).newbyteorder('>')))
np.save('labels_bool.npy', y > 4)

# Odd, but legal.
names = np.array(['cat', 'Zebra', 'été', '日本', 'cat', 'a b'])
np.save('odd_int64_extremes.npy', np.array([-2**63, -1, 0, 1, 2**63 - 1], '<i8'))
np.save('odd_int8_negative.npy', np.array([-128, -2, 0, 127], 'i1'))
np.save('odd_int32_column_be.npy', np.arange(5, dtype='>i4').reshape(5, 1) * -7)
np.save('odd_one_row_one_dim.npy', np.array([[1.5]], np.float32))
np.save('odd_column_fortran.npy', F(np.arange(7, dtype=np.float32).reshape(7, 1)))
f16 = np.array([[0, -0.0, 6e-8, -6e-8, 65504, np.inf, -np.inf, np.nan]], np.float16)
f64 = np.array([[1 + 2**-24, 1 + 3 * 2**-24, 1e-45, 1e-60, 3.4028235677973366e38, 1e300, -1e300, 0.1]])
np.save('odd_f16_specials.npy', f16)
np.save('odd_f64_rounding.npy', f64)
np.save('odd_strings.npy', names)
np.save('odd_strings_be.npy', names.astype('>U5'))
np.save('odd_bytes.npy', np.array([b'cat', b'dog', b'cat']))

# Refused.
np.save('bad_object.npy', np.array([{'a': 1}, None], object), allow_pickle=True)
np.save('bad_structured.npy', np.zeros(3, [('x', '<f4', (2,)), ('y', '<i8')]))
np.save('bad_complex.npy', x[:2, :4].astype('<c8'))
np.save('bad_uint8.npy', (x[:2, :4] * 10).astype('u1'))
np.save('bad_longdouble.npy', x[:2, :4].astype(np.longdouble))
np.save('bad_datetime.npy', np.array(['2024-01-01'], 'M8[D]'))
np.save('bad_0d.npy', np.float32(3))
np.save('bad_1d.npy', x[0])
np.save('bad_3d.npy', x[:2, :8].reshape(2, 2, 4))
np.save('bad_no_rows.npy', x[:0])
np.save('bad_no_dims.npy', x[:4, :0])
np.savez('bad_two_arrays.npz', train=x[:2, :4], test=x[2:4, :4])

# What the writers must reproduce.
np.savez('writer.npz',
         rows=np.array([[3, 1, -1], [0, 2, 7]], np.int64),
         scores=np.array([[.5, .25, -np.inf], [1, 2, 3]], np.float32),
         keys=np.array([['a', 'été'], ['日本語', '']]),
         half=np.array([[1, 2.5], [-3, 65504]], np.float16),
         double=np.array([0.1, 1e300]),
         flags=np.array([True, False]),
         small=np.array([-5, 9], np.int32),
         scalar=np.float64(2.5))


def sha(a):
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


def bits(a):
    return ['%08x' % int(v) for v in a.astype(np.float32).view(np.uint32)[0]]


json.dump({
    'rows': 32, 'dim': 256,
    'sha256_f32_le_c_order': sha(x),
    'sha256_first16_f32': sha(x[:16]),
    'sha256_f16_as_f32': sha(x.astype('<f2').astype('<f4')),
    'sha256_first16_f16_as_f32': sha(x[:16].astype('<f2').astype('<f4')),
    'sha256_labels_i64_le': sha(y),
    'labels': [int(v) for v in y],
    'keys_first16': keys,
    'f16_specials_as_f32': bits(f16),
    'f64_rounding_as_f32': bits(f64),
}, open('expected.json', 'w'), indent=1)
