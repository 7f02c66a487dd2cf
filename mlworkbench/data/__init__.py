"""Labels and images, before any network: no torch here."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "labels": ["LabelTable", "read_labels", "save_labels"],
        "corrections": ["Correction", "correct", "read_corrections", "record", "withdraw"],
        "demo": ["make_demo"],
        "images": ["ImageFault", "check_images", "load_image"],
        "duplicates": ["linked_rows", "near_duplicates"],
        "splits": ["stratified_parts", "stratified_split"],
        "prepare": ["Prepared", "crop_costs", "image_traits", "label_balance", "prepare"],
    },
)
