/* The four Greeks of Black-Scholes calls, as one writes them by hand: the loop that greeks.py holds gradtape's
   compiled gradient against. */

#include <math.h>

static double normal(double d) { return 0.5 + 0.5 * erf(d * 0.70710678118654752440); }

void greeks(long n, int threads, double interest,
            const double *restrict spot, const double *restrict strike,
            const double *restrict years, const double *restrict volatility,
            double *restrict by_spot, double *restrict by_strike,
            double *restrict by_years, double *restrict by_volatility)
{
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (long i = 0; i < n; i++) {
        double root = sqrt(years[i]);
        double spread = volatility[i] * root;
        double growth = interest + 0.5 * volatility[i] * volatility[i];
        double d1 = (log(spot[i] / strike[i]) + growth * years[i]) / spread;
        double density = 0.39894228040143267794 * exp(-0.5 * d1 * d1);
        double discounted = exp(-interest * years[i]) * normal(d1 - spread);
        double vega = spot[i] * root * density;

        by_spot[i] = normal(d1);
        by_strike[i] = -discounted;
        by_years[i] = 0.5 * vega * volatility[i] / years[i] + interest * strike[i] * discounted;
        by_volatility[i] = vega;
    }
}
