"""Files that are not what they claim, made on the fly from sound ones.

Each maker takes a folder with the sound files and a new path, writes the hostile file
there and returns what the command line is given. Its name tells what is wrong.
"""

import io
import json
import lzma
import os
import re
import shutil
import struct
import zipfile
import zlib

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

KEYS = ("x_train", "y_train", "x_test", "y_test")


def sound_arrays():
    """Two classes, dark and bright, in the layout of keras.datasets."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("test", 12)):
        labels = np.arange(count) % 2
        noise = generator.integers(0, 100, (count, 6, 5))
        arrays[f"x_{part}"] = (noise + 150 * labels[:, None, None]).astype(np.uint8)
        arrays[f"y_{part}"] = labels.astype(np.uint8)
    return arrays


def sound_net():
    """A classifier of these images: bright ones are class 1."""
    net = keras.Sequential(
        [keras.Input((6, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    net.layers[-1].set_weights(
        [np.full((30, 2), [-0.1, 0.1], "float32"), np.array([1.5, -1.5], "float32")]
    )
    return net


def write_sound(folder):
    """Writes data.npz, net.keras, served/ and images/ to a folder."""
    np.savez_compressed(folder / "data.npz", **sound_arrays())
    net = sound_net()
    net.save(folder / "net.keras")
    net.export(str(folder / "served"), verbose=False)
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(2):
            path = folder / "images" / name / f"{index}.png"
            Image.fromarray(np.full((6, 5), 90 * index, np.uint8)).save(path)


# Arrays.


def _npy(header, data=b""):
    """A `.npy` member of format 1.0 with a header as given."""
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def _with_member(sound, path, content, *, method=zipfile.ZIP_STORED, name="x_test"):
    """The sound archive with one member replaced by bytes as given."""
    with zipfile.ZipFile(sound / "data.npz") as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            if info.filename != f"{name}.npy":
                new.writestr(info.filename, old.read(info))
        new.writestr(f"{name}.npy", content, method)
    return path


def _claiming(shape, descr="'|u1'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def npz_of_a_trillion_elements(sound, path):
    header = _claiming("(1000000000000,)", "'<f8'")
    return _with_member(sound, path, _npy(header, bytes(64)))


def npz_with_a_dimension_beyond_64_bits(sound, path):
    return _with_member(sound, path, _npy(_claiming(f"({2**70},)"), bytes(64)))


def npz_with_negative_dimensions(sound, path):
    return _with_member(sound, path, _npy(_claiming("(-2, -3)"), bytes(6)))


def npz_with_a_nested_header(sound, path):
    return _with_member(sound, path, _npy("(" * 4000 + ")" * 4000))


def npz_with_signs_without_end(sound, path):
    return _with_member(sound, path, _npy("-" * 9000 + "1"))


def npz_with_a_header_of_code(sound, path):
    return _with_member(sound, path, _npy("__import__('os').getcwd()"))


def npz_with_an_endless_header(sound, path):
    return _with_member(sound, path, _npy(_claiming("(1,)") + " " * 60000, b"1"))


def npz_of_an_unknown_version(sound, path):
    content = bytearray(_npy(_claiming("(1,)"), b"1"))
    content[6] = 9
    return _with_member(sound, path, bytes(content))


def npz_with_a_member_that_is_text(sound, path):
    return _with_member(sound, path, b"x_test, y_test\n1, 2\n")


def npz_with_an_empty_member(sound, path):
    return _with_member(sound, path, b"")


def npz_with_fewer_bytes_than_claimed(sound, path):
    return _with_member(sound, path, _npy(_claiming("(12, 6, 5)"), bytes(100)))


def npz_of_pickled_objects(sound, path):
    arrays = {**sound_arrays(), "x_test": np.array([{}] * 12, dtype=object)}
    np.savez(path, **arrays)
    return path


def npz_of_records(sound, path):
    arrays = {**sound_arrays(), "x_test": np.zeros(12, [("a", "<f4"), ("b", "<i8")])}
    np.savez(path, **arrays)
    return path


def npz_of_texts(sound, path):
    np.savez(path, **{**sound_arrays(), "x_test": np.full((12, 6, 5), "dark")})
    return path


def npz_of_complex_numbers(sound, path):
    np.savez(path, **{**sound_arrays(), "x_test": np.zeros((12, 6, 5), complex)})
    return path


def npz_of_infinities(sound, path):
    np.savez(path, **{**sound_arrays(), "x_test": np.full((12, 6, 5), np.inf)})
    return path


def npz_of_labels_beyond_64_bits(sound, path):
    labels = np.full(12, 2**64 - 1, np.uint64)
    np.savez(path, **{**sound_arrays(), "y_test": labels})
    return path


def npz_of_huge_labels(sound, path):
    np.savez(path, **{**sound_arrays(), "y_test": np.full(12, 1e300)})
    return path


def npz_compressed_by_broken_lzma(sound, path):
    content = _npy(_claiming("(12, 6, 5)"), bytes(360))
    _with_member(sound, path, content, method=zipfile.ZIP_LZMA)
    data = bytearray(path.read_bytes())
    start = data.index(b"x_test.npy") + len(b"x_test.npy")
    data[start : start + 30] = b"\xff" * 30
    path.write_bytes(data)
    return path


def npz_compressed_by_an_unknown_method(sound, path):
    _with_member(sound, path, _npy(_claiming("(12, 6, 5)"), bytes(360)))
    data = bytearray(path.read_bytes())
    # In the local header and in the directory at the end.
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        for found in [match.start() for match in re.finditer(re.escape(mark), data)]:
            data[found + place : found + place + 2] = struct.pack("<H", 77)
    path.write_bytes(data)
    return path


def npz_that_is_encrypted(sound, path):
    data = bytearray((sound / "data.npz").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in [match.start() for match in re.finditer(re.escape(mark), data)]:
            data[found + place] |= 1
    path.write_bytes(data)
    return path


def npz_whose_directory_claims_a_terabyte(sound, path):
    header = _claiming(f"({2**40 - 128},)")
    content = _npy(header + " " * (117 - len(header)))
    _with_member(sound, path, content)
    with zipfile.ZipFile(path, "a") as archive:
        # Writing the directory again takes the claim as it is.
        archive.getinfo("x_test.npy").file_size = 2**40
        archive.comment = b"!"
    return path


def npz_that_holds_an_array_twice(sound, path):
    shutil.copy(sound / "data.npz", path)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((12, 6, 5), np.uint8))
    with zipfile.ZipFile(path) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
        new.writestr("y_tesT.npy", buffer.getvalue())
    path.write_bytes(raw.getvalue().replace(b"y_tesT.npy", b"x_test.npy"))
    return path


def npz_cut_in_half(sound, path):
    data = (sound / "data.npz").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def npz_with_flipped_bytes(sound, path):
    data = bytearray((sound / "data.npz").read_bytes())
    start = data.index(b"x_test.npy") + 40
    for place in range(start, start + 20):
        data[place] ^= 0x5A
    path.write_bytes(data)
    return path


def npz_without_bytes(sound, path):
    path.write_bytes(b"")
    return path


def npz_that_is_a_pipe(sound, path):
    os.mkfifo(path)
    return path


def npz_that_is_a_device(sound, path):
    path.symlink_to("/dev/zero")
    return path


# Folders of images.


def _images(sound, path):
    shutil.copytree(sound / "images", path)
    return path / "a" / "0.png"


def _png(*chunks):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def _enormous_png(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return _png((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b""))


def folder_of_images_beyond_pillow(sound, path):
    _images(sound, path).write_bytes(_enormous_png(60000))
    return path


def folder_of_images_beyond_32_bits(sound, path):
    _images(sound, path).write_bytes(_enormous_png(2**31 - 1))
    return path


def folder_of_images_beyond_memory(sound, path):
    _images(sound, path)
    for image in path.glob("*/*.png"):
        image.write_bytes(_enormous_png(13000))
    for group in path.iterdir():
        for index in range(2, 40):
            (group / f"{index}.png").write_bytes(_enormous_png(13000))
    return path


def folder_with_a_text_for_an_image(sound, path):
    _images(sound, path).write_text("no image")
    return path


def folder_with_an_image_cut_short(sound, path):
    image = _images(sound, path)
    image.write_bytes(image.read_bytes()[:45])
    return path


def folder_with_a_flipped_image(sound, path):
    image = _images(sound, path)
    data = bytearray(image.read_bytes())
    for place in range(34, len(data) - 16):
        data[place] ^= 0xA5
    image.write_bytes(data)
    return path


def folder_with_a_pipe_for_an_image(sound, path):
    image = _images(sound, path)
    image.unlink()
    os.mkfifo(image)
    return path


def folder_with_a_link_to_nothing(sound, path):
    image = _images(sound, path)
    image.unlink()
    image.symlink_to("nowhere.png")
    return path


def folder_with_a_folder_for_an_image(sound, path):
    image = _images(sound, path)
    image.unlink()
    image.mkdir()
    return path


def folder_with_a_moving_image(sound, path):
    frames = [Image.fromarray(np.full((6, 5), level, np.uint8)) for level in (0, 99)]
    image = _images(sound, path)
    frames[0].save(image.with_suffix(".gif"), save_all=True, append_images=frames[1:])
    return path


def folder_with_a_bomb_of_text(sound, path):
    text = zlib.compress(bytes(70 * 2**20))
    header = struct.pack(">IIBBBBB", 5, 6, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(36))
    chunks = ((b"IHDR", header), (b"zTXt", b"a\0\0" + text), (b"IDAT", pixels))
    _images(sound, path).write_bytes(_png(*chunks, (b"IEND", b"")))
    return path


def folder_of_folders(sound, path):
    for part in ("train", "val"):
        shutil.copytree(sound / "images", path / part)
    return path


# Models of Keras.


def _with_config(sound, path, change):
    with zipfile.ZipFile(sound / "net.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = change(content.decode()).encode()
            new.writestr(name, content)
    return path


def _units(count):
    return lambda text: text.replace('"units": 2', f'"units": {count}')


def keras_of_absurd_layers(sound, path):
    return _with_config(sound, path, _units(10**10))


def keras_of_layers_beyond_64_bits(sound, path):
    return _with_config(sound, path, _units(10**30))


def keras_of_negative_layers(sound, path):
    return _with_config(sound, path, _units(-2))


def keras_of_layers_that_the_weights_do_not_fit(sound, path):
    return _with_config(sound, path, _units(3))


def keras_of_absurd_images(sound, path):
    return _with_config(
        sound,
        path,
        lambda text: re.sub(r"null, 6, 5, 1", "null, 6, 5000000000, 1", text),
    )


def keras_nested_deeply(sound, path):
    return _with_config(sound, path, lambda text: "[" * 100000 + "]" * 100000)


def keras_whose_configuration_is_nested_deeply(sound, path):
    nested = '{"a": ' * 900 + "1" + "}" * 900
    return _with_config(
        sound, path, lambda text: text.replace('"units": 2', f'"units": {nested}')
    )


def keras_whose_configuration_is_a_number(sound, path):
    return _with_config(sound, path, lambda text: "1")


def keras_whose_configuration_is_no_text(sound, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", b"\xff\xfe\x00")
    return path


def keras_of_an_unknown_class(sound, path):
    return _with_config(sound, path, lambda text: text.replace('"Dense"', '"Magic"'))


def keras_of_a_class_outside_keras(sound, path):
    def change(text):
        config = json.loads(text)
        config["module"], config["class_name"] = "os", "system"
        return json.dumps(config)

    return _with_config(sound, path, change)


def keras_of_a_function(sound, path):
    function = keras.saving.serialize_keras_object(keras.activations.relu)
    return _with_config(sound, path, lambda text: json.dumps(function))


def keras_of_a_layer(sound, path):
    layer = keras.saving.serialize_keras_object(keras.layers.Flatten())
    return _with_config(sound, path, lambda text: json.dumps(layer))


def keras_without_weights(sound, path):
    with zipfile.ZipFile(sound / "net.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in ("config.json", "metadata.json"):
            new.writestr(name, old.read(name))
    return path


def keras_with_flipped_weights(sound, path):
    with zipfile.ZipFile(sound / "net.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = bytearray(old.read(name))
            if name.endswith(".h5"):
                for place in range(0, len(content), 7):
                    content[place] ^= 0x3C
            new.writestr(name, bytes(content))
    return path


def keras_with_flipped_bytes(sound, path):
    data = bytearray((sound / "net.keras").read_bytes())
    for place in range(200, len(data) - 400, 97):
        data[place] ^= 0x3C
    path.write_bytes(data)
    return path


def keras_with_weights_cut_short(sound, path):
    with zipfile.ZipFile(sound / "net.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content[: len(content) // 2 if "h5" in name else None])
    return path


def keras_that_is_encrypted(sound, path):
    data = bytearray((sound / "net.keras").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in [match.start() for match in re.finditer(re.escape(mark), data)]:
            data[found + place] |= 1
    path.write_bytes(data)
    return path


def keras_compressed_by_lzma(sound, path):
    path.write_bytes(lzma.compress((sound / "net.keras").read_bytes()))
    return path


def keras_that_is_text(sound, path):
    path.write_text("no model")
    return path


def keras_that_is_a_pipe(sound, path):
    os.mkfifo(path)
    return path


def keras_without_layers(sound, path):
    def change(text):
        config = json.loads(text)
        config["config"]["layers"] = []
        config.pop("build_config", None)
        return json.dumps(config)

    return _with_config(sound, path, change)


def keras_of_two_inputs(sound, path):
    inputs = [keras.Input((6, 5, 1)) for _ in range(2)]
    joined = keras.layers.Flatten()(keras.layers.Add()(inputs))
    keras.Model(inputs, keras.layers.Dense(2)(joined)).save(path)
    return path


def keras_of_other_images(sound, path):
    layers = [keras.Input((7, 7, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential(layers).save(path)
    return path


def keras_of_infinite_weights(sound, path):
    net = sound_net()
    net.layers[-1].set_weights([np.full((30, 2), np.nan), np.zeros(2)])
    net.save(path)
    return path


def h5_that_is_text(sound, path):
    path = path.with_suffix(".h5")
    path.write_text("no model")
    return path


# SavedModels.


def _served(sound, path):
    shutil.copytree(sound / "served", path)
    return path / "saved_model.pb"


def _variables(sound, path, ending):
    _served(sound, path)
    [found] = (path / "variables").glob(f"*{ending}")
    return found


def served_as_text(sound, path):
    _served(sound, path).write_text("saved_model_schema_version: 1\nmeta_graphs {\n}\n")
    return path


def served_cut_short(sound, path):
    graph = _served(sound, path)
    data = graph.read_bytes()
    graph.write_bytes(data[: len(data) // 2])
    return path


def served_without_bytes(sound, path):
    _served(sound, path).write_bytes(b"")
    return path


def _with_graph(sound, path, change):
    graph = _served(sound, path)
    saved = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    change(saved.meta_graphs[0])
    graph.write_bytes(saved.SerializeToString())
    return path


def served_with_outputs_of_no_structure(sound, path):
    def change(meta):
        for function in meta.object_graph_def.concrete_functions.values():
            function.output_signature.Clear()

    return _with_graph(sound, path, change)


def served_with_operations_that_do_not_run(sound, path):
    def change(meta):
        for function in meta.graph_def.library.function:
            for node in function.node_def:
                if node.op == "Reshape":
                    node.op = "Tile"
                    node.attr["Tmultiples"].CopyFrom(node.attr.pop("Tshape"))

    return _with_graph(sound, path, change)


def served_for_batches_of_two(sound, path):
    net = sound_net()
    function = tf.function(net)
    module = tf.Module()
    module.net = net
    spec = tf.TensorSpec((2, 6, 5, 1), tf.float32)
    tf.saved_model.save(module, str(path), function.get_concrete_function(spec))
    return path


def served_with_flipped_bytes(sound, path):
    graph = _served(sound, path)
    data = bytearray(graph.read_bytes())
    for place in range(9, len(data), 211):
        data[place] ^= 0x21
    graph.write_bytes(data)
    return path


def served_from_a_folder(sound, path):
    graph = _served(sound, path)
    graph.unlink()
    graph.mkdir()
    return path


def served_from_a_pipe(sound, path):
    graph = _served(sound, path)
    graph.unlink()
    os.mkfifo(graph)
    return path


def served_with_variables_cut_short(sound, path):
    data = _variables(sound, path, "00001")
    data.write_bytes(data.read_bytes()[:20])
    return path


def served_with_an_index_cut_short(sound, path):
    index = _variables(sound, path, ".index")
    index.write_bytes(index.read_bytes()[:50])
    return path


def served_with_flipped_variables(sound, path):
    data = _variables(sound, path, "00001")
    content = bytearray(data.read_bytes())
    content[10] ^= 0xFF
    data.write_bytes(content)
    return path


def served_without_variables(sound, path):
    _served(sound, path)
    shutil.rmtree(path / "variables")
    return path


def served_without_a_signature(sound, path):
    module = tf.Module()
    module.weight = tf.Variable(1.0)
    tf.saved_model.save(module, str(path))
    return path


def served_for_texts(sound, path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def length(texts):
        return {"length": tf.strings.length(texts)}

    tf.saved_model.save(module, str(path), signatures=length)
    return path


def _card(sound, path, text):
    """The sound SavedModel with a card of this package among its assets."""
    name = "keras_advdef_card_Magic.json"
    _with_graph(sound, path, lambda meta: meta.asset_file_def.add(filename=name))
    (path / "assets").mkdir(exist_ok=True)
    (path / "assets" / name).write_text(text)
    return path


def served_with_a_card_cut_short(sound, path):
    return _card(sound, path, '{"summary": ')


def served_with_a_card_of_other_facts(sound, path):
    return _card(sound, path, '{"breaks": [], "attacks": [], "magic": 1}')


def served_with_a_card_nested_deeply(sound, path):
    return _card(sound, path, "[" * 100000 + "]" * 100000)


def served_with_a_card_of_endless_draws(sound, path):
    texts = ("summary", "category", "paper", "claim", "gradient")
    texts += ("training_cost", "inference_cost")
    facts = {name: "" for name in texts} | {"standing": "broken", "attacks": ["PGD"]}
    return _card(sound, path, json.dumps({**facts, "breaks": [], "eot_samples": 10**9}))


def _makers(prefix):
    return [function for name, function in globals().items() if name.startswith(prefix)]


DATA = [*_makers("npz_"), *_makers("folder_")]
MODELS = [*_makers("keras_"), *_makers("h5_"), *_makers("served_")]
