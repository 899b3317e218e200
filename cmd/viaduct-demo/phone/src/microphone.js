// Microphones and speakers.

const processing = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/** The microphone's stream; deviceId '' is the browser's choice. */
export async function openMicrophone(deviceId) {
  if (!navigator.mediaDevices) throw new DOMException('', 'InsecureContext');
  const device = deviceId ? { deviceId: { exact: deviceId } } : {};
  return navigator.mediaDevices.getUserMedia({ audio: { ...processing, ...device } });
}

/** Stops a stream, so that the browser shows no open microphone. */
export function close(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** Devices of one kind, 'audioinput' or 'audiooutput', that can be chosen by name. */
export async function devices(kind) {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return all.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== 'default' && device.label);
}

/** Calls hear whenever a device comes or goes. */
export function watchDevices(hear) {
  navigator.mediaDevices?.addEventListener('devicechange', hear);
}
