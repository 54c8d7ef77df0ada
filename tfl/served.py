"""Run a SavedModel on stored images with TensorFlow alone, as a server would; a program, never imported.

    python -P served.py SAVED_MODEL IMAGES.npz LOGITS.npy

IMAGES.npz holds uint8 arrays `(n, h, w, 3)` under the keys 0, 1, 2...; LOGITS.npy gets the logits of all of them,
`(sum of n, c)`. Started in a fresh process by the parity gate of `export`, so that nothing of tfl or Keras can help.
"""

import sys

import numpy as np

if __name__ == "__main__":
    sys.modules["keras"] = sys.modules["tfl"] = None  # type: ignore[assignment] # whoever imports them fails
    import tensorflow as tf

    model_folder, images_file, logits_file = sys.argv[1:]
    serve = tf.saved_model.load(model_folder).signatures["serving_default"]
    with np.load(images_file) as batches:
        logits = [serve(images=tf.constant(batches[str(i)]))["logits"].numpy() for i in range(len(batches.files))]
    np.save(logits_file, np.concatenate(logits))
