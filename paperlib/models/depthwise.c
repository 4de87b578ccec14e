// The gradient of a depthwise convolution's weight, float32, channels_last, for depthwise.py.
//
// A task is a few images and a block of BLOCK channels, which lie side by side in memory and are one vector here; where
// the last block would not be full, it overlaps the one before it.
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16, MOST = 7, PIXELS = 512 };   // channels of a block; the largest kernel; outputs that make up a task
typedef float Vector __attribute__((vector_size(4 * BLOCK)));

typedef struct {                    // input (images, height, width, channels), output (images, out_height, out_width, ...)
    long images, channels, height, width, out_height, out_width, kernel, stride, padding;
} Layer;

static inline long larger(long a, long b) { return a > b ? a : b; }
static inline long smaller(long a, long b) { return a < b ? a : b; }

static inline Vector load(const float *from, long n)
{
    Vector v = {0};
    if (n == BLOCK)
        memcpy(&v, from, sizeof v);
    else
        memcpy(&v, from, n * sizeof *from);
    return v;
}

// adds to sums (kernel) the gradients of a row of outputs times the inputs, of one row, that these are made of
static inline __attribute__((always_inline)) void add_row(Layer l, const int kernel, const long n, const float *grad,
                                                          const float *x, Vector *restrict sums)
{
    Vector own[MOST] = {0};
    for (long j = 0; j < l.out_width; j++) {
        Vector g = load(grad + j * l.channels, n);
        long first = j * l.stride - l.padding;
        if (first >= 0 && first + kernel <= l.width)
            for (int kx = 0; kx < kernel; kx++)
                own[kx] += g * load(x + (first + kx) * l.channels, n);
        else
            for (long kx = larger(0, -first); kx < smaller(kernel, l.width - first); kx++)
                sums[kx] += g * load(x + (first + kx) * l.channels, n);
    }
    for (int kx = 0; kx < kernel; kx++)
        sums[kx] += own[kx];
}

static inline long block_start(Layer l, long block) { return larger(0, smaller(block * BLOCK, l.channels - BLOCK)); }

// the same for an image and all of the kernel
static inline __attribute__((always_inline)) void add_image(Layer l, const int kernel, const long n, const float *grad,
                                                            const float *x, Vector *restrict sums)
{
    for (long i = 0; i < l.out_height; i++, grad += l.out_width * l.channels) {
        long first = i * l.stride - l.padding;
        for (long ky = larger(0, -first); ky < smaller(kernel, l.height - first); ky++)
            add_row(l, kernel, n, grad, x + (first + ky) * l.width * l.channels, sums + ky * kernel);
    }
}

// grad_w (channels, kernel, kernel), from grad, that of the output, and the input x.  Sums are single precision within
// a task and double over tasks, in an order that does not depend on the number of threads.
void depthwise_weight_gradient(Layer l, const float *grad, const float *x, float *grad_w)
{
    long size = l.kernel * l.kernel, blocks = (l.channels + BLOCK - 1) / BLOCK;
    long in_image = l.height * l.width * l.channels, out_image = l.out_height * l.out_width * l.channels;
    long together = larger(1, PIXELS / (l.out_height * l.out_width)), tasks = (l.images + together - 1) / together;
    Vector *parts = aligned_alloc(sizeof *parts, tasks * blocks * size * sizeof *parts);
    if (!parts)
        abort();
    memset(parts, 0, tasks * blocks * size * sizeof *parts);
#pragma omp parallel
    {
#pragma omp for
        for (long task = 0; task < tasks * blocks; task++) {
            long c = block_start(l, task % blocks), n = smaller(BLOCK, l.channels), start = task / blocks * together;
            for (long image = start; image < smaller(start + together, l.images); image++) {
                const float *to = grad + image * out_image + c, *from = x + image * in_image + c;
                if (n < BLOCK)          // elsewhere with loops unrolled
                    add_image(l, l.kernel, n, to, from, parts + task * size);
                else if (l.kernel == 3)
                    add_image(l, 3, BLOCK, to, from, parts + task * size);
                else if (l.kernel == 5)
                    add_image(l, 5, BLOCK, to, from, parts + task * size);
                else
                    add_image(l, l.kernel, BLOCK, to, from, parts + task * size);
            }
        }
#pragma omp for
        for (long i = 0; i < l.channels * size; i++) {
            long c = i / size, block = c / BLOCK, lane = c - block_start(l, block);
            double sum = 0;
            for (long task = 0; task < tasks; task++)
                sum += parts[(task * blocks + block) * size + i % size][lane];
            grad_w[i] = sum;
        }
    }
    free(parts);
}
