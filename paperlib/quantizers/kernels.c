// The loops of kernels.py in C, for float32.  Each reads and writes every number once; threads share the work.
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

// -- fake quantization of any dense tensor: quantizers/functional.py has the formulas ---------------------------------
typedef struct {                // see Uniform in kernels.py
    float per_unit, shift, zero, code_min, code_max, step, out_offset, ratio;
    int half_up;
} Uniform;

static inline float clip(float x, float low, float high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

static void share(long all, long *first, long *last)
{
    long thread = omp_get_thread_num(), threads = omp_get_num_threads();
    *first = all * thread / threads;
    *last = all * (thread + 1) / threads;
}

static inline float position(float x, Uniform u) { return x * u.per_unit - u.shift + u.zero; }

static inline float code_at(float t, Uniform u, int half_up)     // minus zero
{
    t = clip(t, u.code_min, u.code_max);
    return (half_up ? floorf(t + 0.5f) : rintf(t)) - u.zero;
}

void fake_quantize(long n, const float *restrict x, Uniform u, float *restrict y)
{
#pragma omp parallel if (n > 32768)
    {
        long first, last;
        share(n, &first, &last);
        if (u.half_up)
            for (long i = first; i < last; i++)
                y[i] = code_at(position(x[i], u), u, 1) * u.step + u.out_offset;
        else
            for (long i = first; i < last; i++)
                y[i] = code_at(position(x[i], u), u, 0) * u.step + u.out_offset;
    }
}

// sums = grad * code, grad, grad * t inside, grad inside, grad from the upper clip on, grad from the lower clip down
void fake_quantize_backward(long n, const float *restrict x, const float *restrict grad, Uniform u,
                            float *restrict grad_x, double *restrict sums)
{
    enum { BLOCK = 2048 };
    memset(sums, 0, 6 * sizeof *sums);
#pragma omp parallel if (n > 32768)
    {
        long first, last;
        share(n, &first, &last);
        double own[6] = {0};
        for (long start = first; start < last; start += BLOCK) {
            long end = start + BLOCK < last ? start + BLOCK : last;
            float by_code = 0, total = 0, by_t = 0, within = 0, above = 0, below = 0;
            for (long i = start; i < end; i++) {
                float t = position(x[i], u), g = grad[i], inside = t > u.code_min && t < u.code_max ? g : 0;
                by_code += g * code_at(t, u, u.half_up);
                total += g;
                by_t += inside * (clip(t, u.code_min, u.code_max) - u.zero);
                within += inside;
                above += t >= u.code_max ? g : 0;
                below += t <= u.code_min ? g : 0;
                grad_x[i] = inside * u.ratio;
            }
            own[0] += by_code; own[1] += total; own[2] += by_t; own[3] += within; own[4] += above; own[5] += below;
        }
#pragma omp critical
        for (int i = 0; i < 6; i++)
            sums[i] += own[i];
    }
}

// -- activations with the channels side by side in memory: rows of `channels` numbers, one row per pixel --------------
typedef struct {                // how z becomes a code; see Chain in kernels.py
    const float *slope, *intercept;
    float per_unit, constant, low, high;
    int curved, half_up;
} Chain;

static inline float hswish(float n) { return n * clip(n + 3, 0, 6) / 6; }
static inline float hswish_slope(float n) { return n <= -3 ? 0 : n < 3 ? n / 3 + 0.5f : 1; }

void codes(long rows, long channels, const float *restrict z, Chain k, float *restrict code)
{
#pragma omp parallel
    {
        long first, last;
        share(rows, &first, &last);
        for (long r = first; r < last; r++) {
            const float *restrict zr = z + r * channels;
            float *restrict cr = code + r * channels;
#define EACH(POSITION, ROUNDED)                                                                  \
            for (long c = 0; c < channels; c++) {                                                \
                float n = zr[c] * k.slope[c] + k.intercept[c], t = POSITION;                     \
                t = clip(t, k.low, k.high);                                                      \
                cr[c] = ROUNDED;                                                                 \
            }
            if (k.curved && k.half_up) EACH(hswish(n) * k.per_unit + k.constant, floorf(t + 0.5f))
            else if (k.curved) EACH(hswish(n) * k.per_unit + k.constant, rintf(t))
            else if (k.half_up) EACH(n, floorf(t + 0.5f))
            else EACH(n, rintf(t))
        }
    }
}

// Turns grad, that of t, into that of n; sums = [grad of n * xhat] [grad of n] (channels each), grad*t, grad where not
// clipped.  Sums are single precision over a block of rows and double beyond.
void masked(long rows, long channels, const float *restrict z, float *restrict grad, Chain k,
            const float *restrict mean, const float *restrict invstd, double *restrict sums)
{
    enum { BLOCK = 64 };
    long width = 2 * channels + 2;
    memset(sums, 0, width * sizeof *sums);
#pragma omp parallel
    {
        long first, last;
        share(rows, &first, &last);
        float *restrict block = malloc(2 * channels * sizeof *block);
        double *restrict own = calloc(width, sizeof *own);
        for (long start = first; start < last; start += BLOCK) {
            long end = start + BLOCK < last ? start + BLOCK : last;
            float by_t = 0, total = 0;
            memset(block, 0, 2 * channels * sizeof *block);
            for (long r = start; r < end; r++) {
                const float *restrict zr = z + r * channels;
                float *restrict gr = grad + r * channels;
                if (k.curved)
                    for (long c = 0; c < channels; c++) {
                        float n = zr[c] * k.slope[c] + k.intercept[c];
                        float t = hswish(n) * k.per_unit + k.constant;
                        float g = t > k.low && t < k.high ? gr[c] : 0;
                        by_t += g * clip(t, k.low, k.high);
                        total += g;
                        g *= hswish_slope(n) * k.per_unit;
                        gr[c] = g;
                        block[c] += g * (zr[c] - mean[c]) * invstd[c];
                        block[channels + c] += g;
                    }
                else
                    for (long c = 0; c < channels; c++) {
                        float t = zr[c] * k.slope[c] + k.intercept[c];
                        float g = t > k.low && t < k.high ? gr[c] : 0;
                        gr[c] = g;
                        block[c] += g * (zr[c] - mean[c]) * invstd[c];
                        block[channels + c] += g;
                    }
            }
            for (long c = 0; c < 2 * channels; c++)
                own[c] += block[c];
            own[2 * channels] += by_t;
            own[2 * channels + 1] += total;
        }
#pragma omp critical
        for (long i = 0; i < width; i++)
            sums[i] += own[i];
        free(block);
        free(own);
    }
}

// grad * by_grad + z * by_z + constant, written to grad
void combine(long rows, long channels, float *restrict grad, const float *restrict z, const float *restrict by_grad,
             const float *restrict by_z, const float *restrict constant)
{
#pragma omp parallel
    {
        long first, last;
        share(rows, &first, &last);
        for (long r = first; r < last; r++)
            for (long c = 0; c < channels; c++)
                grad[r * channels + c] = grad[r * channels + c] * by_grad[c] + z[r * channels + c] * by_z[c] + constant[c];
    }
}

// -- what a convolution would have given with a few other weights (output_moments.py) ---------------------------------
typedef struct {
    long images, height, width, in_channels, out_height, out_width, out_channels, stride_y, stride_x;
} Shape;

typedef struct {                // a weight that differs: where it reads, relative to the output's place, and by how much
    int dy, dx, channel;
    float change;
} Tap;

// sums = sum(v - reference) and sum of its square, for the `n` outputs that have taps (those of output i end at last[i]),
// with v = y * line + offset + the taps' changes times x
void corrected_moments(Shape s, const float *restrict x, const float *restrict y, long n, const long *restrict output,
                       const long *restrict last, const Tap *restrict taps, const float *restrict line,
                       const float *restrict offset, const float *restrict reference, double *restrict sums)
{
    memset(sums, 0, 2 * n * sizeof *sums);
#pragma omp parallel
    {
        double *own = calloc(2 * n, sizeof *own);
        float *v = malloc(s.out_width * sizeof *v);
        long first, end;
        share(s.images * s.out_height, &first, &end);
        for (long row = first; row < end; row++) {
            const float *yr = y + row * s.out_width * s.out_channels;
            for (long i = 0, t = 0; i < n; i++) {
                for (long c = 0; c < s.out_width; c++)
                    v[c] = yr[c * s.out_channels + output[i]] * line[i] + offset[i] - reference[i];
                for (; t < last[i]; t++) {
                    long py = row % s.out_height * s.stride_y + taps[t].dy, dx = taps[t].dx;
                    if (py < 0 || py >= s.height)
                        continue;
                    const float *xr = x + ((row / s.out_height * s.height + py) * s.width + dx) * s.in_channels
                                      + taps[t].channel;
                    long from = dx < 0 ? (-dx + s.stride_x - 1) / s.stride_x : 0;
                    long to = dx < s.width ? (s.width - 1 - dx) / s.stride_x + 1 : 0;
                    for (long c = from; c < (to < s.out_width ? to : s.out_width); c++)
                        v[c] += taps[t].change * xr[c * s.stride_x * s.in_channels];
                }
                float sum = 0, square = 0;
                for (long c = 0; c < s.out_width; c++) {
                    sum += v[c];
                    square += v[c] * v[c];
                }
                own[2 * i] += sum;
                own[2 * i + 1] += square;
            }
        }
#pragma omp critical
        for (long i = 0; i < 2 * n; i++)
            sums[i] += own[i];
        free(own);
        free(v);
    }
}
