// A computer with two GPUs as NVIDIA's management library tells of them (nvml.h of CUDA 12; units: mW, mJ, per cent).
// The first draws 300 W and counts its energy itself, since 1,000 J; the second, an old one, draws 100 W and does not.
#include <string.h>
#include <time.h>

typedef int nvmlReturn_t;  // NVML_SUCCESS 0, NVML_ERROR_INVALID_ARGUMENT 2, NVML_ERROR_NOT_SUPPORTED 3
typedef struct { int number; } *nvmlDevice_t;
typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;

static struct { int number; } gpus[2] = {{0}, {1}};

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) { return 0; }
nvmlReturn_t nvmlInit_v2(void) { return 0; }
nvmlReturn_t nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(nvmlReturn_t result) { return result == 3 ? "Not Supported" : "Invalid Argument"; }
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (index > 1) return 2;
    *device = (nvmlDevice_t)&gpus[index];
    return 0;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    strncpy(name, device->number ? "Tesla P100-PCIE-16GB" : "NVIDIA A100-SXM4-40GB", length);
    return 0;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    strncpy(uuid, device->number ? "GPU-bbbb0000-0000-0000-0000-000000000001" : "GPU-aaaa0000-0000-0000-0000-000000000000", length);
    return 0;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *power) {
    *power = device->number ? 100000 : 300000;
    return 0;
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy) {
    static double began = 0;
    struct timespec now;
    if (device->number) return 3;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = now.tv_sec + now.tv_nsec / 1e9;
    if (began == 0) began = seconds;
    *energy = 1000000 + (unsigned long long)(300000 * (seconds - began));
    return 0;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
    utilization->gpu = device->number ? 20 : 80;
    utilization->memory = 10;
    return 0;
}
