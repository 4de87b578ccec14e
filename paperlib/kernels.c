// The loops of paperlib/kernels.py in C, for float32 activations whose channels lie side by side in memory (rows of
// `channels` numbers, one row per pixel).  Each reads and writes every number once; rows are shared out to threads.
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

typedef struct {                // how z becomes a code; see Chain in kernels.py
    const float *slope, *intercept;
    float per_unit, constant, low, high;
    int curved, half_up;
} Chain;

static inline float clip(float x, float low, float high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}
static inline float hswish(float n) { return n * clip(n + 3, 0, 6) / 6; }
static inline float hswish_slope(float n) { return n <= -3 ? 0 : n < 3 ? n / 3 + 0.5f : 1; }

static void share(long rows, long *first, long *last)
{
    long thread = omp_get_thread_num(), threads = omp_get_num_threads();
    *first = rows * thread / threads;
    *last = rows * (thread + 1) / threads;
}

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
