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

// numbers of 0, `width` for each thread, that are added up in the order of the threads: sums are the same each time
static double *parts_of(long width)
{
    double *parts = calloc(omp_get_max_threads() * width, sizeof *parts);
    if (!parts)
        abort();
    return parts;
}

static void add_up(long width, double *parts, double *restrict sums)
{
    memset(sums, 0, width * sizeof *sums);
    for (long t = 0, threads = omp_get_max_threads(); t < threads; t++)
        for (long i = 0; i < width; i++)
            sums[i] += parts[t * width + i];
    free(parts);
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
    double *parts = parts_of(6);
#pragma omp parallel if (n > 32768)
    {
        long first, last;
        share(n, &first, &last);
        double *own = parts + 6 * omp_get_thread_num();
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
    }
    add_up(6, parts, sums);
}

// -- activations with the channels side by side in memory: rows of `channels` numbers, one row per pixel --------------
enum { ROWS = 64 };             // of a block: sums are single precision within it and double beyond

// mean and biased variance of each channel; running statistics, where there are any, go on as torch's do
void moments(long rows, long channels, const float *restrict z, float *restrict mean, float *restrict var,
             float *restrict running_mean, float *restrict running_var, float momentum)
{
    double *parts = parts_of(2 * channels);
#pragma omp parallel
    {
        long first, last, threads = omp_get_num_threads();
        share(rows, &first, &last);
        double *own = parts + omp_get_thread_num() * 2 * channels, *own_square = own + channels;
        float *restrict sum = malloc(3 * channels * sizeof *sum);
        float *restrict square = sum + channels, *restrict centre = square + channels;
        for (long start = first; start < last; start += ROWS) {
            long end = start + ROWS < last ? start + ROWS : last, before = start - first, n = end - start, r = start;
            memset(sum, 0, 2 * channels * sizeof *sum);
            for (long c = 0; c < channels; c++)     // near the mean, which keeps the difference of squares exact
                centre[c] = before ? own[c] : z[start * channels + c];
            for (; r + 4 <= end; r += 4)
                for (long c = 0; c < channels; c++) {
                    const float *at = z + r * channels + c;
                    float d0 = at[0] - centre[c], d1 = at[channels] - centre[c], d2 = at[2 * channels] - centre[c],
                          d3 = at[3 * channels] - centre[c];
                    sum[c] += d0 + d1 + (d2 + d3);
                    square[c] += d0 * d0 + d1 * d1 + (d2 * d2 + d3 * d3);
                }
            for (; r < end; r++)
                for (long c = 0; c < channels; c++) {
                    float d = z[r * channels + c] - centre[c];
                    sum[c] += d;
                    square[c] += d * d;
                }
            for (long c = 0; c < channels; c++) {
                double d = (double)sum[c] / n, off = centre[c] + d - own[c];
                own[c] += off * n / (before + n);
                own_square[c] += square[c] - d * d * n + off * off * before * n / (before + n);
            }
        }
        free(sum);
#pragma omp barrier
#pragma omp for
        for (long c = 0; c < channels; c++) {
            double m = 0, v = 0;
            for (long t = 0; t < threads; t++) {
                long before = rows * t / threads, n = rows * (t + 1) / threads - before;
                double off = parts[t * 2 * channels + c] - m, share = n ? (double)n / (before + n) : 0;
                m += off * share;
                v += parts[t * 2 * channels + channels + c] + off * off * before * share;
            }
            mean[c] = m;
            var[c] = v / rows;
            if (running_mean) {
                running_mean[c] = momentum * mean[c] + (1 - momentum) * running_mean[c];
                running_var[c] = momentum * (float)(v / (rows - 1)) + (1 - momentum) * running_var[c];
            }
        }
    }
    free(parts);
}

typedef struct {                // how z becomes a code; see Chain in kernels.py
    const float *slope, *intercept;
    float per_unit, constant, low, high;
    int curved, half_up;
} Chain;

static inline float activation(float n, int curved) { return curved ? n * clip(n + 3, 0, 6) / 6 : n; }
static inline float steepness(float n, int curved)
{
    return !curved ? 1 : n <= -3 ? 0 : n < 3 ? n * (1 / 3.0f) + 0.5f : 1;
}

static inline __attribute__((always_inline)) void code_row(long channels, const float *restrict z, Chain k,
                                                           const int curved, const int half_up, float *restrict code)
{
    for (long c = 0; c < channels; c++) {
        float n = z[c] * k.slope[c] + k.intercept[c];
        float t = clip(activation(n, curved) * k.per_unit + k.constant, k.low, k.high);
        code[c] = half_up ? floorf(t + 0.5f) : rintf(t);
    }
}

void codes(long rows, long channels, const float *restrict z, Chain k, float *restrict code)
{
#pragma omp parallel
    {
        long first, last;
        share(rows, &first, &last);
        for (long i = first * channels; i < last * channels; i += channels)
            if (k.curved && k.half_up) code_row(channels, z + i, k, 1, 1, code + i);
            else if (k.curved) code_row(channels, z + i, k, 1, 0, code + i);
            else if (k.half_up) code_row(channels, z + i, k, 0, 1, code + i);
            else code_row(channels, z + i, k, 0, 0, code + i);
    }
}

// turns grad, that of t, into that of n; adds to sums grad of n * (z - mean), grad of n (channels each), grad * t, grad
static inline __attribute__((always_inline)) void mask_row(long channels, const float *restrict z, Chain k,
        const int curved, const float *restrict mean, float *restrict grad, float *restrict sums)
{
    float *restrict by_z = sums, *restrict total = sums + channels, by_t = 0, all = 0;
    for (long c = 0; c < channels; c++) {
        float n = z[c] * k.slope[c] + k.intercept[c], t = activation(n, curved) * k.per_unit + k.constant;
        float g = t > k.low && t < k.high ? grad[c] : 0;
        by_t += g * clip(t, k.low, k.high);
        all += g;
        g *= steepness(n, curved) * k.per_unit;
        grad[c] = g;
        by_z[c] += g * (z[c] - mean[c]);
        total[c] += g;
    }
    sums[2 * channels] += by_t;
    sums[2 * channels + 1] += all;
}

// Turns grad, that of t, into that of z; sums = [grad of n * xhat] [grad of n] (channels each), grad * t, grad of what is
// not clipped.  `moving`: mean and invstd depend on z.
void chain_backward(long rows, long channels, const float *restrict z, float *restrict grad, Chain k,
                    const float *restrict mean, const float *restrict invstd, int moving, float *restrict sums)
{
    long width = 2 * channels + 2;
    double *parts = parts_of(width);
#pragma omp parallel
    {
        long first, last;
        share(rows, &first, &last);
        float *restrict block = malloc(width * sizeof *block);
        double *own = parts + omp_get_thread_num() * width;
        for (long start = first; start < last; start += ROWS) {
            memset(block, 0, width * sizeof *block);
            for (long i = start * channels; i < (start + ROWS < last ? start + ROWS : last) * channels; i += channels)
                if (k.curved)
                    mask_row(channels, z + i, k, 1, mean, grad + i, block);
                else
                    mask_row(channels, z + i, k, 0, mean, grad + i, block);
            for (long i = 0; i < width; i++)
                own[i] += block[i];
        }
#pragma omp barrier
        long threads = omp_get_num_threads();
#pragma omp for
        for (long i = 0; i < width; i++) {
            double sum = 0;
            for (long t = 0; t < threads; t++)
                sum += parts[t * width + i];
            sums[i] = i < channels ? sum * invstd[i] : sum;
        }
        // slope * (grad - mean(grad) - xhat * mean(grad * xhat))
        float *restrict by_z = block, *restrict constant = block + channels;
        for (long c = 0; c < channels; c++) {
            float share = moving ? k.slope[c] / -rows : 0;
            by_z[c] = share * invstd[c] * sums[c];
            constant[c] = share * sums[channels + c] - by_z[c] * mean[c];
        }
        for (long r = first; r < last; r++)
            for (long c = 0, i = r * channels; c < channels; c++, i++)
                grad[i] = grad[i] * k.slope[c] + z[i] * by_z[c] + constant[c];
        free(block);
    }
    free(parts);
}

// -- what a layer would have given with the weights that it had before (output_moments.py) ----------------------------
typedef struct {                // of an input x * unit + shift
    long images, height, width, in_channels, out_height, out_width, out_channels, groups;
    long kernel[2], stride[2], padding[2], dilation[2];     // y, x
    int channels_last;                                      // a weight's memory: (out, y, x, in) or (out, in, y, x)
    float unit, shift;
} Layer;

typedef struct {                // a weight that differs: where it reads, relative to the output's place; by how much
    long dy, dx, at;
    float change;
} Tap;

static inline int within(long at, long size) { return at >= 0 && at < size; }

static Tap tap_of(Layer l, long output, long i, float change)
{
    long inputs = l.in_channels / l.groups, area = l.kernel[0] * l.kernel[1];
    long input = l.channels_last ? i % inputs : i / area, place = l.channels_last ? i / inputs : i % area;
    long dy = place / l.kernel[1] * l.dilation[0] - l.padding[0];
    long dx = place % l.kernel[1] * l.dilation[1] - l.padding[1];
    long channel = output / (l.out_channels / l.groups) * inputs + input;
    return (Tap){dy, dx, (dy * l.width + dx) * l.in_channels + channel, change};
}

// sums = sum(v) and sum(v * v) for each output that has taps (those of outputs[i] end at last[i]), with
// v = y * line[i] + offset[i] + the taps' changes times x
static void corrected_sums(Layer l, const float *x, const float *y, long n, const long *outputs, const long *last,
                           const Tap *taps, const float *line, const float *offset, double *sums)
{
    double *parts = parts_of(2 * n);
#pragma omp parallel
    {
        double *own = parts + 2 * n * omp_get_thread_num();
        long first, end;
        share(l.images * l.out_height * l.out_width, &first, &end);
        for (long p = first; p < end; p++) {
            long row = p / l.out_width, py = row % l.out_height * l.stride[0], px = p % l.out_width * l.stride[1];
            const float *yp = y + p * l.out_channels;
            const float *xp = x + ((row / l.out_height * l.height + py) * l.width + px) * l.in_channels;
            int inner = py >= l.padding[0] && px >= l.padding[1]
                        && py - l.padding[0] + (l.kernel[0] - 1) * l.dilation[0] < l.height
                        && px - l.padding[1] + (l.kernel[1] - 1) * l.dilation[1] < l.width;
            for (long i = 0, t = 0; i < n; i++) {
                float v = yp[outputs[i]] * line[i] + offset[i];
                for (; t < last[i]; t++)
                    if (inner || within(py + taps[t].dy, l.height) && within(px + taps[t].dx, l.width))
                        v += taps[t].change * xp[taps[t].at];
                own[2 * i] += v;
                own[2 * i + 1] += v * v;
            }
        }
    }
    add_up(2 * n, parts, sums);
}

// Turns mean and variance of each channel of y, which `weight` gives, into those with the weight `old`; its scale is
// ratio times as large, and what differs by more than `least` beyond that has another code.  Says 0, with nothing done,
// where so many weights have one that a convolution is faster: a tap costs as much as fifty weights of it.
int moments_before(Layer l, const float *x, const float *y, const float *bias, const float *weight, const float *old,
                   const float *ratio, const float *least, double *mean, double *var)
{
    long size = l.in_channels / l.groups * l.kernel[0] * l.kernel[1], count = l.images * l.out_height * l.out_width;
    long n = 0, all = 0, *changes = calloc(3 * l.out_channels, sizeof *changes);
    long *outputs = changes + l.out_channels, *last = outputs + l.out_channels;
#pragma omp parallel for
    for (long o = 0; o < l.out_channels; o++) {
        int others = 0;
        for (long i = o * size; i < (o + 1) * size; i++)
            others += fabsf(old[i] - weight[i] * ratio[o]) > least[o];
        changes[o] = others;
    }
    for (long o = 0; o < l.out_channels; o++)
        if (changes[o]) {
            outputs[n] = o;
            last[n++] = all += changes[o];
        }
    int sparse = all + n <= l.out_channels * (1 + size / 50.0) + 150000.0 / count;
    if (sparse) {
        Tap *taps = malloc((all + 1) * sizeof *taps), *tap = taps;
        float *line = malloc(2 * (n + 1) * sizeof *line), *offset = line + n;
        double *sums = malloc(2 * (n + 1) * sizeof *sums);
        for (long o = 0; o < l.out_channels; o++) {
            mean[o] = mean[o] * ratio[o] + (bias ? (1 - ratio[o]) * bias[o] : 0);
            var[o] *= ratio[o] * (double)ratio[o];
        }
        for (long i = 0; i < n; i++) {
            long o = outputs[i];
            double shifted = (bias ? (1 - ratio[o]) * bias[o] : 0) - mean[o];
            for (long k = o * size; k < (o + 1) * size; k++) {
                float change = old[k] - weight[k] * ratio[o];
                if (fabsf(change) > least[o]) {
                    *tap++ = tap_of(l, o, k - o * size, change * l.unit);
                    shifted += change * l.shift;
                }
            }
            line[i] = ratio[o];
            offset[i] = shifted;
        }
        corrected_sums(l, x, y, n, outputs, last, taps, line, offset, sums);
        for (long i = 0; i < n; i++) {
            double off = sums[2 * i] / count;
            mean[outputs[i]] += off;
            var[outputs[i]] = sums[2 * i + 1] / count - off * off;
        }
        free(taps);
        free(line);
        free(sums);
    }
    free(changes);
    return sparse;
}
