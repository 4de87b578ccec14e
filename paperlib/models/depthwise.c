// The gradient of a depthwise convolution's weight, float32, channels_last, for depthwise.py.
//
// A task is one image and a block of BLOCK channels, which lie side by side in memory and are one vector here.  The rows
// of its input are packed as they are needed, with their border of zeros, into a ring of buffers that stays in the
// fastest cache; the loops over pixels then know neither a border nor a distance between channels.
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16, MOST = 7 };      // channels of a block; the largest kernel
typedef float Vector __attribute__((vector_size(4 * BLOCK)));

typedef struct {                    // input (images, height, width, channels), output (images, out_height, out_width, ...)
    long images, channels, height, width, out_height, out_width, kernel, stride, padding;
} Layer;

static inline Vector load(const float *from, long n)
{
    Vector v = {0};
    if (n == BLOCK)
        memcpy(&v, from, sizeof v);
    else
        memcpy(&v, from, n * sizeof *from);
    return v;
}

static Vector *vectors(long n)
{
    Vector *v = aligned_alloc(sizeof *v, n * sizeof *v);
    if (!v)
        abort();
    return v;
}

// row `i` of `n` channels of an image as `length` vectors, with zeros beyond the image
static void pack(Layer l, const float *image, long i, long n, Vector *restrict row, long length)
{
    memset(row, 0, length * sizeof *row);
    if (i < 0 || i >= l.height)
        return;
    const float *from = image + i * l.width * l.channels;
    for (long j = 0; j < l.width && l.padding + j < length; j++)
        row[l.padding + j] = load(from + j * l.channels, n);
}

// adds to sums (kernel, kernel) the gradients of one row of outputs times the inputs that these are made of
static inline __attribute__((always_inline)) void add_row(Layer l, const int kernel, const float *grad, long n,
                                                          Vector *const *rows, Vector *restrict sums)
{
    for (int ky = 0; ky < kernel; ky++) {
        Vector own[MOST] = {0};
        for (long j = 0; j < l.out_width; j++) {
            Vector g = load(grad + j * l.channels, n);
            for (int kx = 0; kx < kernel; kx++)
                own[kx] += g * rows[ky][j * l.stride + kx];
        }
        for (int kx = 0; kx < kernel; kx++)
            sums[ky * kernel + kx] += own[kx];
    }
}

// grad_w (channels, kernel, kernel), from grad, that of the output, and the input x.  Sums are single precision within an
// image and double over images, in an order that does not depend on the number of threads.
void depthwise_weight_gradient(Layer l, const float *grad, const float *x, float *grad_w)
{
    long k = l.kernel, size = k * k, length = (l.out_width - 1) * l.stride + k;
    long blocks = (l.channels + BLOCK - 1) / BLOCK;
    Vector *parts = vectors(l.images * blocks * size);
#pragma omp parallel
    {
        Vector *ring = vectors(k * length), *rows[MOST];
#pragma omp for
        for (long task = 0; task < l.images * blocks; task++) {
            long image = task / blocks, c = task % blocks * BLOCK;
            long n = l.channels - c < BLOCK ? l.channels - c : BLOCK;
            const float *from = x + image * l.height * l.width * l.channels + c;
            const float *to = grad + image * l.out_height * l.out_width * l.channels + c;
            Vector *sums = parts + task * size;
            memset(sums, 0, size * sizeof *sums);
            for (long i = 0, next = 0; i < l.out_height; i++, to += l.out_width * l.channels) {
                for (; next < i * l.stride + k; next++)
                    pack(l, from, next - l.padding, n, ring + next % k * length, length);
                for (long ky = 0; ky < k; ky++)
                    rows[ky] = ring + (i * l.stride + ky) % k * length;
                if (k == 5)             // with its loops unrolled
                    add_row(l, 5, to, n, rows, sums);
                else
                    add_row(l, k, to, n, rows, sums);
            }
        }
        free(ring);
#pragma omp for
        for (long i = 0; i < l.channels * size; i++) {
            long c = i / size;
            double sum = 0;
            for (long image = 0; image < l.images; image++)
                sum += parts[(image * blocks + c / BLOCK) * size + i % size][c % BLOCK];
            grad_w[i] = sum;
        }
    }
    free(parts);
}
