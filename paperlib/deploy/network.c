// The parts of a network in C99; c_program.py puts those that a network needs before its tables.
// Maps lie in memory as (height, width, channels).  A code is an int16_t, a number between layers an int32_t in units
// of 2**-FRACTION, and a division rounds half-way cases upwards.

// Channels and pixels that are computed at once, in the registers of a processor with vectors.
enum { LANES = 32, PIXELS = 4, EIGHT = 8 };

// How a number x becomes a code: start, 1 less for each of the first `falls` numbers of `at` that x has reached, and
// 1 more for each of the `rises` numbers after them.
typedef struct { int start, falls, rises; const int32_t *at; } Stairs;

// A convolution, or a fully connected layer as one of 1x1.  Weights are `times` * code + `least`, with as many codes of
// `bits` bits in a word as fit, the lowest bits first.  The words of LANES output channels follow those of the LANES
// channels before; a word has codes of one channel, at successive places of the kernel (height, width, channels).
// Sums of `safe` products fit an int16_t.  A number is a sum times multiplier / 2**shift, plus the bias; `maps` is 1 where
// each place of the output has a bias of its own.  Where there is `reach`, for LANES channels after LANES channels, it
// leads from sums to codes at once: first + sign * (how many rises less how many falls the sum has reached), with rows
// of first, sign, falls and rises.
typedef struct {
    int in_height, in_width, in_channels, height, width, channels, groups;
    int kernel_height, kernel_width, stride[2], padding[2], dilation[2];
    int bits, times, least, safe, maps;
    const uint16_t *weight;
    const int32_t *multiplier, *bias;
    const uint8_t *shift;
    const int16_t *reach;
} Layer;

// Called with the codes that reach a layer: its name, the codes and their shape.
typedef void See(const char *layer, const int16_t *codes, int height, int width, int channels);

// x / 2**shift, rounded downwards.  A shift to the right of what may be negative is left to unsigned numbers.
static inline int64_t lowered(int64_t x, int shift)
{
    const uint64_t sign = -(uint64_t)(x < 0);
    return (int64_t)((((uint64_t)x ^ sign) >> shift) ^ sign);
}

// x / 2**shift, rounded to the nearest, for shift > 0.
static inline int64_t shifted(int64_t x, int shift)
{
    return lowered(lowered(x, shift - 1) + 1, 1);
}

// x / by, rounded, for by > 0.
static inline int64_t quotient(int64_t x, int64_t by)
{
    x += by / 2;
    return x / by - (x % by < 0);
}

static inline int64_t clipped(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

// The nearest number of 32 bits.
static inline int32_t narrow(int64_t x)
{
    return (int32_t)clipped(x, INT32_MIN, INT32_MAX);
}

// The codes of an image's bytes, from a table of 256 for each channel.
static void look_up(int n, int channels, const int16_t *table, const uint8_t *image, int16_t *code)
{
    for (int i = 0; i < n; i++)
        code[i] = table[i % channels * 256 + image[i]];
}

// The codes of LANES numbers.
static inline void stairs(const Stairs *s, const int32_t *restrict x, int32_t *restrict code)
{
    for (int i = 0; i < LANES; i++)
        code[i] = s->start;
    for (int j = 0; j < s->falls; j++)
        for (int i = 0; i < LANES; i++)
            code[i] -= x[i] >= s->at[j];
    for (int j = s->falls; j < s->falls + s->rises; j++)
        for (int i = 0; i < LANES; i++)
            code[i] += x[i] >= s->at[j];
}

static void encode(const Stairs *s, int n, const int32_t *x, int16_t *codes)
{
    int32_t some[LANES] = {0}, code[LANES];
    for (int first = 0; first < n; first += LANES) {
        const int lanes = n - first < LANES ? n - first : LANES;
        memcpy(some, x + first, sizeof *x * lanes);
        stairs(s, some, code);
        for (int i = 0; i < lanes; i++)
            codes[first + i] = (int16_t)code[i];
    }
}

// Weights of `lanes` channels from `words` on, as rows of LANES numbers, of which those beyond `lanes` mean nothing.
static void unpack(const Layer *l, const uint16_t *words, int depth, int lanes, int16_t *restrict weight)
{
    const int codes = 16 / l->bits, mask = (1 << l->bits) - 1;
    for (int k = 0; k < depth; words += lanes)
        for (int shift = 0; shift < codes * l->bits && k < depth; shift += l->bits, k++)
            for (int i = 0; i < LANES; i++)
                weight[k * LANES + i] = (int16_t)(l->times * (words[i] >> shift & mask) + l->least);
}

// From sums of products for `lanes` channels from `first` on, at one place, to numbers, or to codes if there are stairs.
static inline void finish(const Layer *l, const Stairs *s, int place, int first, int lanes, const int32_t *sums,
                          int32_t *numbers, int16_t *codes)
{
    const int32_t *multiplier = l->multiplier + first, *bias = l->bias + l->maps * place * l->channels + first;
    const uint8_t *shift = l->shift + first;
    int32_t y[LANES], code[LANES];
    for (int i = 0; i < LANES; i++)         // the tables have some numbers more, for the last channels
        y[i] = narrow(shifted((int64_t)sums[i] * multiplier[i], shift[i]) + bias[i]);
    if (!s) {
        memcpy(numbers + place * l->channels + first, y, sizeof *y * lanes);
        return;
    }
    stairs(s, y, code);
    for (int i = 0; i < lanes; i++)
        codes[place * l->channels + first + i] = (int16_t)code[i];
}

// The same to codes at `pixels` places, for a layer with `reach`.
static inline void reach(const Layer *l, const Stairs *s, int pixels, int place, int first, int lanes,
                         int16_t sums[][LANES], int16_t *codes)
{
    const int16_t *start = l->reach + (2 + s->falls + s->rises) * first, *sign = start + lanes, *at = sign + lanes;
    int16_t count[PIXELS][LANES] = {{0}};
    for (int j = 0; j < s->falls; j++, at += lanes)
        for (int p = 0; p < pixels; p++)
            for (int i = 0; i < LANES; i++)
                count[p][i] = (int16_t)(count[p][i] - (sums[p][i] >= at[i]));
    for (int j = 0; j < s->rises; j++, at += lanes)
        for (int p = 0; p < pixels; p++)
            for (int i = 0; i < LANES; i++)
                count[p][i] = (int16_t)(count[p][i] + (sums[p][i] >= at[i]));
    for (int p = 0; p < pixels; p++) {
        int16_t *code = codes + (place + p) * l->channels + first;
        int i = 0;
        for (; i + EIGHT <= lanes; i += EIGHT)
            for (int e = i; e < i + EIGHT; e++)
                code[e] = (int16_t)(start[e] + sign[e] * count[p][e]);
        for (; i < lanes; i++)
            code[i] = (int16_t)(start[i] + sign[i] * count[p][i]);
    }
}

// The one or the other, at `pixels` places.
static inline void deliver(const Layer *l, const Stairs *s, int pixels, int place, int first, int lanes,
                           int16_t some[][LANES], int32_t sums[][LANES], int32_t *numbers, int16_t *codes)
{
    if (l->reach && pixels == PIXELS)
        reach(l, s, PIXELS, place, first, lanes, some, codes);
    else
        for (int p = 0; p < pixels; p++)
            if (l->reach)
                reach(l, s, 1, place + p, first, lanes, some + p, codes);
            else if (lanes == LANES)                // known to the compiler then
                finish(l, s, place + p, first, LANES, sums[p], numbers, codes);
            else
                finish(l, s, place + p, first, lanes, sums[p], numbers, codes);
}

// The first of `size` steps of a kernel that lies at 0 or beyond, and the first that lies at `end` or beyond.
static inline int inside(int start, int step, int size, int end, int *last)
{
    const int first = start < 0 ? (step - 1 - start) / step : 0, after = (end - start + step - 1) / step;
    *last = after < size ? after : size;
    return first;
}

// Copy what the kernel covers at one place of the output; what lies outside of the input has the code 0.
static void cover(const Layer *l, const int16_t *x, int place, int first, int channels, int16_t *patch)
{
    const int top = place / l->width * l->stride[0] - l->padding[0], step = l->dilation[1];
    const int left = place % l->width * l->stride[1] - l->padding[1], size = l->kernel_width * channels;
    int end, begin = inside(left, step, l->kernel_width, l->in_width, &end);
    for (int i = 0; i < l->kernel_height; i++, patch += size) {
        const int row = top + i * l->dilation[0], out = row < 0 || row >= l->in_height;
        const int from = (row * l->in_width + left) * l->in_channels + first;
        if (out || begin > 0 || end < l->kernel_width)
            memset(patch, 0, sizeof *patch * size);
        if (!out && step == 1 && channels == l->in_channels && begin < end)
            memcpy(patch + begin * channels, x + from + begin * channels, sizeof *patch * (end - begin) * channels);
        else if (!out)
            for (int j = begin; j < end; j++)
                memcpy(patch + j * channels, x + from + j * step * l->in_channels, sizeof *patch * channels);
    }
}

// Products of `pixels` patches with the weights of LANES channels, summed from `start` to `end` of their depth.
static inline void sum_products(int pixels, int depth, int start, int end, const int16_t *restrict weight,
                                const int16_t *restrict patch, int16_t sums[][LANES])
{
    int16_t some[PIXELS][LANES] = {{0}};
    for (int k = start; k < end; k++)
        for (int p = 0; p < pixels; p++)
            for (int i = 0; i < LANES; i++)
                some[p][i] = (int16_t)(some[p][i] + patch[p * depth + k] * weight[k * LANES + i]);
    memcpy(sums, some, sizeof *some * pixels);
}

// A convolution whose output channels see all channels of their group.
static void convolve(const Layer *l, const Stairs *s, const int16_t *x, int32_t *numbers, int16_t *codes)
{
    const int in = l->in_channels / l->groups, out = l->channels / l->groups, places = l->height * l->width;
    const int depth = l->kernel_height * l->kernel_width * in, words = 16 / l->bits, rows = (depth + words - 1) / words;
    const int copies = l->kernel_height * l->kernel_width > 1 || l->groups > 1 || l->padding[0] || l->padding[1]
                       || l->in_height != l->height || l->in_width != l->width;
    for (int channel = 0, lanes; channel < l->channels; channel += lanes) {
        const int group = channel / out, left = (group + 1) * out - channel;
        lanes = left < LANES ? left : LANES;
        unpack(l, l->weight + rows * channel, depth, lanes, kernel);
        for (int place = 0; place < places; place += PIXELS) {
            const int pixels = places - place < PIXELS ? places - place : PIXELS;
            const int16_t *patch = copies ? patches : x + place * depth;
            int32_t sums[PIXELS][LANES] = {{0}};
            int16_t some[PIXELS][LANES];
            for (int p = 0; p < pixels && copies; p++)
                cover(l, x, place + p, group * in, in, patches + p * depth);
            for (int start = 0; start < depth; start += l->safe) {
                const int end = depth - start < l->safe ? depth : start + l->safe;
                if (pixels == PIXELS)
                    sum_products(PIXELS, depth, start, end, kernel, patch, some);
                else
                    for (int p = 0; p < pixels; p++)
                        sum_products(1, depth, start, end, kernel, patch + p * depth, some + p);
                for (int p = 0; p < pixels && !l->reach; p++)
                    for (int i = 0; i < LANES; i++)
                        sums[p][i] += some[p][i];
            }
            deliver(l, s, pixels, place, channel, lanes, some, sums, numbers, codes);
        }
    }
}

// Products of a row of a kernel, from `begin` to `end`, with a row of pixels, added to what is there already.
static inline void add_products(const Layer *l, int begin, int end, int left, const int16_t *restrict weight,
                                const int16_t *restrict pixel, int16_t *restrict sums)
{
    int16_t some[LANES];
    memcpy(some, sums, sizeof some);
    for (int j = begin; j < end; j++)
        for (int i = 0; i < LANES; i++)
            some[i] = (int16_t)(some[i] + pixel[(left + j * l->dilation[1]) * l->channels + i] * weight[j * LANES + i]);
    memcpy(sums, some, sizeof some);
}

// The same where sums need more than 16 bits.
static inline void add_products32(const Layer *l, int begin, int end, int left, const int16_t *restrict weight,
                                  const int16_t *restrict pixel, int32_t *restrict sums)
{
    for (int j = begin; j < end; j++)
        for (int i = 0; i < LANES; i++)
            sums[i] += pixel[(left + j * l->dilation[1]) * l->channels + i] * weight[j * LANES + i];
}

// A convolution of each channel with a kernel of its own.
static void convolve_depthwise(const Layer *l, const Stairs *s, const int16_t *x, int32_t *numbers, int16_t *codes)
{
    const int depth = l->kernel_height * l->kernel_width, words = 16 / l->bits, rows = (depth + words - 1) / words;
    const int places = l->height * l->width;
    for (int first = 0; first < l->channels; first += LANES) {
        const int lanes = l->channels - first < LANES ? l->channels - first : LANES;
        unpack(l, l->weight + rows * first, depth, lanes, kernel);
        for (int place = 0; place < places; place += PIXELS) {
            const int pixels = places - place < PIXELS ? places - place : PIXELS;
            int32_t sums[PIXELS][LANES] = {{0}};
            int16_t some[PIXELS][LANES] = {{0}};
            for (int p = 0; p < pixels; p++) {
                const int top = (place + p) / l->width * l->stride[0] - l->padding[0];
                const int left = (place + p) % l->width * l->stride[1] - l->padding[1];
                int bottom, right, row = inside(top, l->dilation[0], l->kernel_height, l->in_height, &bottom);
                const int column = inside(left, l->dilation[1], l->kernel_width, l->in_width, &right);
                for (; row < bottom; row++) {
                    const int16_t *pixel = x + (top + row * l->dilation[0]) * l->in_width * l->channels + first;
                    if (l->safe < depth)
                        add_products32(l, column, right, left, kernel + row * l->kernel_width * LANES, pixel, sums[p]);
                    else
                        add_products(l, column, right, left, kernel + row * l->kernel_width * LANES, pixel, some[p]);
                }
                for (int i = 0; i < LANES && !l->reach; i++)
                    sums[p][i] += some[p][i];
            }
            deliver(l, s, pixels, place, first, lanes, some, sums, numbers, codes);
        }
    }
}

static void clip(int n, const int32_t *x, int32_t low, int32_t high, int32_t *y)
{
    for (int i = 0; i < n; i++)
        y[i] = (int32_t)clipped(x[i], low, high);
}

static void hardsigmoid(int n, const int32_t *x, int32_t *y)
{
    for (int i = 0; i < n; i++)
        y[i] = (int32_t)quotient(clipped(x[i] + 3 * ONE, 0, 6 * ONE), 6);
}

static void hardswish(int n, const int32_t *x, int32_t *y)
{
    for (int i = 0; i < n; i++)
        y[i] = (int32_t)quotient(clipped(x[i] + 3 * ONE, 0, 6 * ONE) * x[i], 6 * ONE);
}

// Numbers or codes times a factor, plus a number.
static void rescale(int n, const int32_t *x, int32_t multiplier, int shift, int32_t bias, int32_t *y)
{
    for (int i = 0; i < n; i++)
        y[i] = narrow(shifted((int64_t)x[i] * multiplier, shift) + bias);
}

static void rescale_codes(int n, const int16_t *x, int32_t multiplier, int shift, int32_t bias, int32_t *y)
{
    for (int i = 0; i < n; i++)
        y[i] = narrow(shifted((int64_t)x[i] * multiplier, shift) + bias);
}

static void add(int n, const int32_t *a, const int32_t *b, int32_t *y)
{
    for (int i = 0; i < n; i++)
        y[i] = narrow((int64_t)a[i] + b[i]);
}

// n places of a map times a vector of channels.
static void multiply(int n, int channels, const int32_t *map, const int32_t *vector, int32_t *y)
{
    for (int place = 0; place < n; place++, map += channels, y += channels)
        for (int i = 0; i < channels; i++)
            y[i] = narrow(shifted((int64_t)map[i] * vector[i], FRACTION));
}

// The mean over each of out_height x out_width windows, which cover the map.
static void average(int height, int width, int channels, int out_height, int out_width, const int32_t *x, int32_t *y)
{
    for (int i = 0; i < out_height; i++)
        for (int j = 0; j < out_width; j++) {
            const int top = i * height / out_height, bottom = ((i + 1) * height + out_height - 1) / out_height;
            const int left = j * width / out_width, right = ((j + 1) * width + out_width - 1) / out_width;
            for (int c = 0; c < channels; c++) {
                int64_t sum = 0;
                for (int row = top; row < bottom; row++)
                    for (int column = left; column < right; column++)
                        sum += x[(row * width + column) * channels + c];
                *y++ = (int32_t)quotient(sum, (int64_t)(bottom - top) * (right - left));
            }
        }
}

// The largest number under each window that the kernel covers; `size` and so on hold height and width.
static void max_pool(const int *size, int channels, const int *out, const int *window, const int *stride,
                     const int *padding, const int32_t *x, int32_t *y)
{
    for (int i = 0; i < out[0]; i++)
        for (int j = 0; j < out[1]; j++, y += channels) {
            const int top = i * stride[0] - padding[0], left = j * stride[1] - padding[1];
            for (int c = 0; c < channels; c++)
                y[c] = INT32_MIN;
            for (int row = top < 0 ? 0 : top; row < top + window[0] && row < size[0]; row++)
                for (int column = left < 0 ? 0 : left; column < left + window[1] && column < size[1]; column++)
                    for (int c = 0; c < channels; c++) {
                        const int32_t number = x[(row * size[1] + column) * channels + c];
                        y[c] = number > y[c] ? number : y[c];
                    }
        }
}

// From (places, channels) to (channels, places), the order in which a vector takes a map.
static void flatten(int places, int channels, const int32_t *x, int32_t *y)
{
    for (int c = 0; c < channels; c++)
        for (int place = 0; place < places; place++)
            *y++ = x[place * channels + c];
}

#ifndef NET_LIBRARY
static void print(const char *layer, const int16_t *code, int height, int width, int channels)
{
    printf("%s %d %d %d", layer, height, width, channels);
    for (int i = 0; i < height * width * channels; i++)
        printf(" %d", code[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    static uint8_t image[HEIGHT * WIDTH * CHANNELS];
    int32_t logits[CLASSES];
    size_t got;
    if (argc > 2 || (argc == 2 && strcmp(argv[1], "codes"))) {
        fprintf(stderr, "usage: %s [codes] < images\n", argv[0]);
        return 2;
    }
    while ((got = fread(image, 1, sizeof image, stdin)) == sizeof image) {
        net(image, logits, argc == 2 ? print : NULL);
        for (int i = 0; i < CLASSES; i++)
            printf("%ld%c", (long)logits[i], i < CLASSES - 1 ? ' ' : '\n');
    }
    if (got)
        fprintf(stderr, "%s: the last image has only %d of %d bytes\n", argv[0], (int)got, (int)sizeof image);
    return got != 0;
}
#endif
