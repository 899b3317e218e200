// Microphones whose sound is known, and ears that tell which sound comes.

import { report } from './page.js';

let context;

function audio() {
  context ??= new AudioContext({ sampleRate: 48000 });
  return context;
}

/** Every microphone of this page is a tone of that frequency in Hz from now on. */
export function soundLike(frequency) {
  navigator.mediaDevices.getUserMedia = async () => {
    const source = new OscillatorNode(audio(), { frequency });
    const volume = new GainNode(audio(), { gain: 0.4 });
    const microphone = new MediaStreamAudioDestinationNode(audio(), { channelCount: 1 });
    source.connect(volume).connect(microphone);
    source.start();
    return microphone.stream;
  };
}

/**
 * Reports, as "heard", what comes on a call's audio: its frequency in Hz, 0 for
 * silence, each time when that has lasted for a moment and is another than before.
 */
export function listen(call, connection) {
  const stream = new MediaStream([connection.getReceivers().find(({ track }) => track.kind === 'audio').track]);
  // Chromium decodes what an element plays, and not for Web Audio alone.
  const player = new Audio();
  player.srcObject = stream;
  player.muted = true;
  player.play();

  const analyser = new AnalyserNode(audio(), { fftSize: 8192, smoothingTimeConstant: 0 });
  audio().createMediaStreamSource(stream).connect(analyser);
  let told, before, times;
  const ear = setInterval(() => {
    if (connection.connectionState === 'closed') clearInterval(ear);
    const now = loudest(analyser);
    times = now === before ? times + 1 : 1;
    before = now;
    if (times >= 3 && now !== told) report('heard', { call, status: told = now });
  }, 100);
}

/** The frequency in Hz that has the most power, 0 where none has much. */
function loudest(analyser) {
  const powers = new Float32Array(analyser.frequencyBinCount); // dB
  analyser.getFloatFrequencyData(powers);
  let best = 0;
  powers.forEach((power, bin) => {
    if (power > powers[best]) best = bin;
  });
  return powers[best] < -50 ? 0 : Math.round((best * analyser.context.sampleRate) / analyser.fftSize);
}
